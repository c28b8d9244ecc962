// The families of an overlay's membership, and its peers in each.
import type { Family, IpAddress } from '../address.js';
import type { Remote, Side } from '../backends/backend.js';
import { backendIn } from '../backends/index.js';
import { addressIn, FAMILIES, publicIpIn, subnetIn } from '../families.js';
import type { OverlayMembership } from '../membership.js';
import type { OverlayNetwork } from '../network.js';
import type { Lease } from '../records.js';

export const bridgeOf = ({ network }: OverlayMembership): string => backendIn(network).bridge(network);

/** A lease as the backend reads it: a node that moves publishes what two of them need. */
export const leaseAs = <L extends Lease>(lease: L, backendType: string): L =>
  lease.backendType !== backendType && lease.beside?.backendType === backendType
    ? { ...without(lease), ...lease.beside }
    : lease;

/** Whether a lease is of the network's backend. Of some backends a flanneld's leases do not name it; nor does a reservation. */
export const isOfBackend = ({ backendType, publicIp }: Lease, network: OverlayNetwork): boolean =>
  backendType === network.backend ||
  (backendType === '' && publicIp.value !== 0n && backendIn(network).unnamed === true);

function without<L extends Lease>({ data: _data, ...lease }: L): L {
  return lease as L;
}

/** The membership with the own lease as its network's backend reads it. */
export const inForce = (membership: OverlayMembership): OverlayMembership => ({
  ...membership,
  lease: leaseAs(membership.lease, membership.network.backend),
});

/** With the backend beside, while the network moves: its devices and peers, to which no route leads. */
export function besideOf(membership: OverlayMembership): OverlayMembership[] {
  const { beside: network } = membership.network;
  return network === undefined ? [] : [inForce({ ...membership, network })];
}

/** The peer's underlay address of a family that this node has, too. */
const reachableAt = ({ underlay }: OverlayMembership, peer: Lease, family: Family): IpAddress | undefined =>
  addressIn(underlay, family) === undefined ? undefined : publicIpIn(peer, family);

/** The families in which this node is on the network. */
export function sidesOf({ lease, underlay, network }: OverlayMembership): Side[] {
  const backend = backendIn(network);
  const published = backend.data !== undefined;
  return FAMILIES.flatMap((family): Side[] => {
    const subnet = subnetIn(lease, family);
    const [local] = backend
      .carriers(network, family)
      .flatMap((carrier) => addressIn(underlay, carrier) ?? []);
    const missing = published && lease.data?.[family] === undefined;
    return subnet === undefined || local === undefined || missing ? [] : [{ family, subnet, local }];
  });
}

/** A peer's end in each family in which it can be reached. */
export const remotesOf = (membership: OverlayMembership, peer: Lease): Remote[] =>
  sidesOf(membership).flatMap((side) => {
    const remote = remoteOf(membership, side, peer);
    return 'why' in remote ? [] : [remote];
  });

/**
 * No peer if the lease is not one that the network's backend reaches, or if it would draw other traffic: a subnet outside
 * the network, or one that overlaps this node's own.
 */
function remoteOf(membership: OverlayMembership, side: Side, lease: Lease): Remote | { why: string } {
  const { network } = membership;
  const peer = leaseAs(lease, network.backend);
  const { family } = side;
  const subnet = subnetIn(peer, family);
  const [publicIp] = backendIn(network)
    .carriers(network, family)
    .flatMap((carrier) => reachableAt(membership, peer, carrier) ?? []);
  const whole = subnetIn(network, family);
  const backend = backendIn(network);
  if (!isOfBackend(peer, network))
    return { why: `its backend is "${peer.backendType}", and the network's ${network.backend}` };
  if (subnet === undefined || publicIp === undefined) return { why: `it has no IPv${family} there` };
  if (whole?.contains(subnet) !== true)
    return { why: `its subnet ${subnet.toString()} is not in the network` };
  if (side.subnet.overlaps(subnet))
    return { why: `its subnet ${subnet.toString()} overlaps this node's ${side.subnet.toString()}` };
  if (backend.data !== undefined && peer.data?.[family] === undefined)
    return { why: `its lease has no data of its IPv${family} tunnel` };
  const remote = { family, subnet, publicIp, lease: peer };
  const why = backend.unreachable(membership, remote);
  return why === undefined ? remote : { why };
}

/** A peer's end in a family, or why it cannot be reached there, as far as the records show it. */
export function remoteIn(
  membership: OverlayMembership,
  peer: Lease,
  family: Family,
): Remote | { why: string } {
  const side = sidesOf(membership).find((side) => side.family === family);
  if (side === undefined) return { why: `this node has no IPv${family} there` };
  return remoteOf(membership, side, peer);
}
