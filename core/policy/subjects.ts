// Containers and nodes of a cluster as policies see them.
import { bareIp, IpAddress, IpNetwork } from '../address.js';
import { FAMILIES } from '../families.js';
import { gatewayOf } from '../link-names.js';
import { ANY_HOST_IP, ANY_HOST_IP6, familiesOf } from '../publish.js';
import { isHost, type Endpoint, type Lease, type NodeRecord } from '../records.js';
import type { Subject } from './selector.js';

export function subjectOf(endpoint: Endpoint): Subject {
  const { name, network, node, labels, manager, target, ip, ip6, allowedAddresses = [] } = endpoint;
  // What is no prefix is an address that moves between containers.
  const more = allowedAddresses.map((text) => IpNetwork.parse(text)).filter(({ size }) => size === 1n);
  return {
    ...{ name, network, node },
    ...(labels !== undefined && { labels }),
    // Docker tells them once it has made the endpoint.
    ...(labels === undefined && manager === 'docker' && { unlabelled: true }),
    ...(isHost({ target }) && { host: true }),
    ips: [
      ...[ip, ...(ip6 === undefined ? [] : [ip6])].map((text) => IpAddress.parse(bareIp(text))),
      ...more.map(({ base }) => base),
    ],
  };
}

/** By which others reach it. */
const ipsOf = ({ publicIp, publicIp6, underlayIp, underlayIp6 }: NodeRecord): (string | undefined)[] => [
  ...[publicIp, publicIp6, underlayIp, underlayIp6],
];

/**
 * The ports of nodes that lead to a container.
 * @param nodes all of them
 * @param leases of its network
 */
export function publishedBy(
  { node, publish, ip6 }: Endpoint,
  nodes: ReadonlyMap<string, NodeRecord>,
  leases: Iterable<Lease>,
): { ip: string; protocol: 'tcp' | 'udp'; port: number }[] {
  if (publish.length === 0) return [];
  const everyone = [...leases].map((lease) => lease.node ?? '');
  const own = ip6 === undefined ? [4 as const] : FAMILIES;
  return publish.flatMap(({ hostIp, hostPort, protocol, everywhere }) => {
    const opening = (everywhere ? everyone : [node]).flatMap((name) => nodes.get(name) ?? []);
    const isAny = hostIp === ANY_HOST_IP || hostIp === ANY_HOST_IP6;
    const ips = (isAny ? opening.flatMap(ipsOf) : [hostIp]).flatMap((ip) =>
      ip === undefined ? [] : IpAddress.parse(ip),
    );
    return ips
      .filter(({ family }) => familiesOf(hostIp, own).includes(family))
      .map((ip) => ({ ip: ip.toString(), protocol, port: hostPort }));
  });
}

export interface NodeSources {
  nodes: Iterable<NodeRecord>;
  /** Of the networks that count. */
  leases: Iterable<Lease>;
  /** Further addresses of one node. */
  own?: { node: string; ips: readonly string[] };
}

/** The nodes themselves, by keys of their own: the addresses that their packets have. */
export function nodeSubjects({ nodes, leases, own }: NodeSources): Map<string, Subject> {
  const found = new Map<string, { node?: string; ips: Set<string> }>();
  const add = (key: string, node: string | undefined, ips: readonly (string | undefined)[]): void => {
    const there = found.get(key) ?? { ...(node !== undefined && { node }), ips: new Set<string>() };
    for (const ip of ips) if (ip !== undefined) there.ips.add(ip);
    found.set(key, there);
  };
  for (const { network, node, subnet, subnet6 } of leases) {
    const prefixes = subnet6 === undefined ? [subnet] : [subnet, subnet6];
    // A tunnel has the first address, the containers' gateway the second.
    const ips = prefixes.flatMap((prefix) => [prefix.base.toString(), gatewayOf(prefix).toString()]);
    add(node === undefined ? `lease ${network} ${subnet.toString()}` : `node ${node}`, node, ips);
  }
  for (const node of nodes) add(`node ${node.name}`, node.name, ipsOf(node));
  if (own !== undefined) add(`node ${own.node}`, own.node, own.ips);
  return new Map(
    [...found].map(([key, { node, ips }]) => [
      key,
      { host: true, ...(node !== undefined && { node }), ips: [...ips].map((ip) => IpAddress.parse(ip)) },
    ]),
  );
}
