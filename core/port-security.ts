// Port security: what a container may send on each of its ports, and who the other nodes of its network are.
import { IpNetwork, type IpAddress } from './address.js';
import { driverOf } from './drivers/index.js';
import type { ContainerPort, FirewallMember } from './firewall.js';
import type { Membership } from './membership.js';
import { areRouted, prefixesOf } from './network.js';
import type { PumpPrefixObject } from './objects/index.js';
import { subnetIn } from './families.js';
import { outermost } from './prefixes.js';
import { addressesOf, type Endpoint, type Lease, type NodeRecord } from './records.js';

/** @param all the container's endpoints on this node, this one included */
export function compileContainerPort(
  { network }: Membership,
  endpoint: Endpoint,
  all: readonly Endpoint[],
): ContainerPort {
  const link = endpoint.hostIfname;
  if (network.portSecurity === false) return { link };
  const isLan = driverOf(network).parent(network) !== undefined;
  return {
    link,
    bounds: {
      mac: endpoint.mac,
      ips: [...new Set(all.flatMap(addressesOf))].toSorted(),
      allowed: outermost((endpoint.allowedAddresses ?? []).map((text) => IpNetwork.parse(text))),
      // Its routers' advertisements give addresses that weft does not know.
      ...(isLan && subnetIn(network, 6) === undefined && { anyIp6: true }),
      ...(isLan && { lan: true }),
    },
  };
}

/** A node of any network, which containers reach by no tunnel's port. */
export const compileNode = (node: NodeRecord): FirewallMember => ({
  addresses: nodeAddresses(node),
  vnis: [],
  plain: [],
});

/** The same of a lease in a network that this node is not on: a flanneld has no other record. */
export const compileStranger = ({ publicIp, publicIp6 }: Lease): FirewallMember => ({
  addresses: unique([publicIp, publicIp6].flatMap(knownAddress)),
  vnis: [],
  plain: [],
});

/** What a peer may send in UDP where this node's kernel takes it: packets from its prefixes. */
export const compileFou = ({ to, via }: PumpPrefixObject): FirewallMember => ({
  addresses: [via],
  vnis: [],
  plain: [],
  fou: [IpNetwork.parse(to)],
});

/**
 * Another node of a network.
 * @param mine this node's memberships
 */
export function compileMember(
  { network }: Membership,
  lease: Lease,
  node: NodeRecord | undefined,
  mine: Iterable<Membership>,
): FirewallMember {
  const driver = driverOf(network);
  const { addresses: public_ } = compileStranger(lease);
  const addresses = unique([...public_, ...(node === undefined ? [] : nodeAddresses(node))]);
  // The node itself sends, too: for clients of a port that every node opens.
  const sources = driver.isPlain(network)
    ? [...subnetsOf(lease), ...addresses.map((ip) => IpNetwork.parse(`${ip}/${ip.includes(':') ? 128 : 32}`))]
    : [];
  return { addresses, vnis: driver.vnis(network), plain: pairs(sources, reached(network, mine)) };
}

/** The bridge of another program that is the network itself on this node; what comes from there is no link of weft's. */
export const compileOwnBridge = (
  { network, lease }: Membership,
  mine: Iterable<Membership>,
): FirewallMember => ({
  addresses: [],
  vnis: [],
  plain: pairs(subnetsOf(lease), reached(network, mine)),
});

const reached = (network: Membership['network'], mine: Iterable<Membership>): IpNetwork[] => [
  ...prefixesOf(network),
  ...[...mine]
    .filter((other) => areRouted(network, other.network))
    .flatMap((other) => prefixesOf(other.network)),
];

const pairs = (from: readonly IpNetwork[], to: readonly IpNetwork[]): FirewallMember['plain'] =>
  from.flatMap((one) =>
    to.filter(({ family }) => family === one.family).map((other) => ({ from: one, to: other })),
  );

const subnetsOf = ({ subnet, subnet6 }: Lease): IpNetwork[] =>
  subnet6 === undefined ? [subnet] : [subnet, subnet6];

/** A reservation has the address 0.0.0.0. */
const knownAddress = (ip: IpAddress | undefined): string[] =>
  ip === undefined || ip.value === 0n ? [] : [ip.toString()];

const nodeAddresses = ({ publicIp, publicIp6, underlayIp, underlayIp6 }: NodeRecord): string[] =>
  unique([publicIp, publicIp6, underlayIp, underlayIp6].filter((ip) => ip !== undefined));

const unique = (texts: readonly string[]): string[] => [...new Set(texts)];
