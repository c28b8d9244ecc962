// Which of the leases in etcd a node believes: any node may write them, since flannel's keys do not say whose they are.
//
// A lease that is not believed gets no route. Leases without a node are a flanneld's, or made by hand: nothing else says
// where those are, so only their subnets are checked.
import { hasHeldLonger } from './lost-records.js';
import type { Network } from './network.js';
import type { Lease, NodeRecord } from './records.js';

type Subnets = Pick<Lease, 'subnet' | 'subnet6' | 'since'>;

export interface Surroundings {
  network: Pick<Network, 'subnet' | 'subnet6' | 'hostPrefix'>;
  /** The leases of the network, this one among them; those that cannot overlap it may be left out. */
  leases: Iterable<Lease>;
  /** The record of the node that the lease names. */
  node: Pick<NodeRecord, 'name' | 'publicIp' | 'publicIp6'> | undefined;
  /** The state of the lease that was believed before. */
  before?: Pick<Lease, 'publicIp' | 'publicIp6'> | undefined;
  /** It was there before the network's config had its present state, which may have asked for larger subnets then. */
  predatesConfig?: boolean;
  /** Whether flannelds may be nodes of the network: their leases have no node that could confirm them. */
  flannel: boolean;
}

/** Why a lease is not believed; undefined: it is. */
export function whyDisbelieved(
  lease: Lease,
  { network, leases, node, before, predatesConfig = false, flannel }: Surroundings,
): string | undefined {
  const { subnet, subnet6 } = lease;
  if (!network.subnet.contains(subnet)) return `is not in ${network.subnet.toString()}`;
  if (subnet6 !== undefined && network.subnet6?.contains(subnet6) !== true)
    return `${subnet6.toString()} is not in ${network.subnet6?.toString() ?? 'a network of IPv6'}`;
  if (subnet.length < network.hostPrefix && !predatesConfig)
    return `is larger than the /${network.hostPrefix} that a node gets`;
  for (const other of leases)
    if (isElder(other, lease)) return `overlaps ${other.subnet.toString()}, an older lease`;
  if (node === undefined && !flannel) return 'is of no node of weft’s, and --flannel is off';
  // A node that moves writes its record first. Until its lease follows, the address that it had counts.
  const other = node && addressNotOf(node, lease, before);
  if (node === undefined || other === undefined) return undefined;
  return `names ${other} as the address of node ${node.name}, whose own record has ${[node.publicIp, node.publicIp6].filter((it) => it !== undefined).join(', ')}`;
}

/** A new address in the lease that its node does not have. */
function addressNotOf(
  node: NonNullable<Surroundings['node']>,
  lease: Lease,
  before: Surroundings['before'],
): string | undefined {
  const [ip, ip6] = [lease.publicIp.toString(), lease.publicIp6?.toString()];
  if (ip !== node.publicIp && ip !== before?.publicIp.toString()) return ip;
  if (ip6 === undefined || node.publicIp6 === undefined) return undefined;
  return ip6 !== node.publicIp6 && ip6 !== before?.publicIp6?.toString() ? ip6 : undefined;
}

/** Leases of one length overlap only where they are the same. */
export const mayOverlap = (a: Subnets, b: Subnets): boolean =>
  a.subnet.length !== b.subnet.length && a.subnet.overlaps(b.subnet);

/** Whether the other lease has the better right to what both have (decision 0017). */
function isElder(other: Subnets, lease: Subnets): boolean {
  if (!mayOverlap(other, lease)) return false;
  if (other.since !== undefined) return hasHeldLonger(other.since, lease.since);
  // Neither says since when: the smaller one, as the kernel would route.
  return lease.since === undefined && other.subnet.length > lease.subnet.length;
}
