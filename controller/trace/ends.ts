// What the words of a trace mean: a container, a node, or an address.
import { IpAddress } from '../../core/address.js';
import { find } from '../../core/find.js';
import { gatewayOf, RESOLVER_IP } from '../../core/link-names.js';
import { invalidArgument, notFound } from '../../core/errors.js';
import { prefixesOf } from '../../core/network.js';
import { bareIn, FAMILIES, subnetIn } from '../../core/families.js';
import { ANY_HOST_IP, ANY_HOST_IP6 } from '../../core/publish.js';
import { addressesOf, isHost, type Endpoint, type NodeRecord } from '../../core/records.js';
import { PREFIXED_TARGET } from '../../core/target.js';
import { unknownPlace } from '../../daemon/unknown.js';
import type { View } from '../../store/store.js';

/** One end of a trace. */
export interface TraceEnd {
  /** As people know it. */
  name: string;
  /** Absent: no node of weft's. */
  node?: string;
  /** Of its container; none: the node itself, or nobody that is known. */
  endpoints: readonly Endpoint[];
  /** The address that was named. */
  address?: string;
  /** The port of its container that a published one leads to. */
  port?: number;
  /** Why nobody can look on there. */
  foreign?: string;
}

type Records = Pick<View, 'endpoints' | 'nodes' | 'leases' | 'networks'>;

/** How many matches an error about an ambiguous word names. */
const NAMED = 8;

const allEndpoints = ({ endpoints }: Records): Endpoint[] =>
  [...endpoints.values()].flatMap((one) => [...one.values()]);

/**
 * What the word means to `find`; an address is the end itself, whoever has it.
 * @param here ids of the endpoints of what the asking host means by the word as a target
 * @throws WeftError INVALID_ARGUMENT where it means several; NOT_FOUND
 */
export function endOf(view: Records, word: string, here: readonly string[]): TraceEnd {
  if (word === '') throw invalidArgument('trace: an end is not given', 'Write weft trace A B.');
  const ip = IpAddress.tryParse(word);
  if (ip !== undefined) return { name: word, endpoints: [], address: ip.toString() };
  const found = find(word, { endpoints: allEndpoints(view), nodes: [...view.nodes.values()] }, here);
  const container = containerOf(
    word,
    found.flatMap((one) => (one.kind === 'endpoint' ? one.endpoint : [])),
  );
  if (container !== undefined) return container;
  const [node] = found.flatMap((one) => (one.kind === 'node' ? one.node : []));
  if (node !== undefined) return { name: `node ${node}`, node, endpoints: [] };
  if (PREFIXED_TARGET.test(word))
    throw notFound(`${word}: no network has that container`, 'See weft endpoint ls.');
  throw unknownPlace(word, { endpoints: allEndpoints(view), nodes: view.nodes.values() });
}

const containerKey = ({ node, target }: Endpoint): string => `${node}\0${target}`;

/** All endpoints of the one container that these are of. @throws WeftError where they are of several */
function containerOf(word: string, found: readonly Endpoint[]): TraceEnd | undefined {
  const [first] = found;
  if (first === undefined) return undefined;
  const containers = new Map(found.map((endpoint) => [containerKey(endpoint), endpoint]));
  if (containers.size === 1) return { ...named(first), endpoints: found };
  const listed = [...containers.values()].map(
    ({ id, name, network, node }) => `${id} (${name} of ${network} on ${node})`,
  );
  throw invalidArgument(
    `${word}: means ${containers.size} containers: ${listed.slice(0, NAMED).join(', ')}${listed.length > NAMED ? ', …' : ''}`,
    'Give an id or an address.',
  );
}

const named = (endpoint: Endpoint): Pick<TraceEnd, 'name' | 'node'> => ({
  name: isHost(endpoint) ? `node ${endpoint.node}` : endpoint.name,
  node: endpoint.node,
});

/** With the container's other endpoints, in whose networks it may answer, too. */
export const whole = (end: TraceEnd, view: Records): TraceEnd => {
  const [first] = end.endpoints;
  if (first === undefined) return end;
  const rest = allEndpoints(view).filter(
    (one) => containerKey(one) === containerKey(first) && !end.endpoints.includes(one),
  );
  return { ...end, endpoints: [...end.endpoints, ...rest] };
};

/** Who has an address. @param from the other end, for addresses that every node has */
export function ownerOf(
  view: Records,
  end: TraceEnd,
  from: TraceEnd,
  protocol: string,
  port: number,
): TraceEnd {
  const { address } = end;
  const all = allEndpoints(view);
  if (address === undefined) {
    const [first] = end.endpoints.length > 0 ? [] : addressesOfNode(view.nodes.get(end.node ?? ''));
    return first === undefined
      ? end
      : { ...end, ...publishedAt(all, end.node ?? '', first, protocol, port), address: first };
  }
  const owners = all.filter((endpoint) => addressesOf(endpoint).includes(address));
  const networks = new Set(from.endpoints.map(({ network }) => network));
  const near = owners.filter(({ network }) => networks.has(network));
  const found = near.length > 0 ? near : owners;
  if (found.length > 0) {
    const one = containerOf(address, found);
    if (one !== undefined) return { ...whole(one, view), address };
  }
  if (address === RESOLVER_IP) return { ...end, ...hostOf(from.node) };
  const node = [...view.nodes.values()].find((record) => addressesOfNode(record).includes(address));
  if (node !== undefined) return { ...end, ...publishedAt(all, node.name, address, protocol, port) };
  return { ...end, ...subnetOwner(view, address) };
}

const hostOf = (node: string | undefined): Partial<TraceEnd> =>
  node === undefined ? {} : { node, name: `node ${node}` };

const addressesOfNode = (node: NodeRecord | undefined): string[] =>
  node === undefined
    ? []
    : [node.publicIp, node.publicIp6, node.underlayIp, node.underlayIp6].flatMap((one) => one ?? []);

/** The container that a port of the node leads to, or the node itself. */
function publishedAt(
  all: readonly Endpoint[],
  node: string,
  address: string,
  protocol: string,
  port: number,
): Partial<TraceEnd> {
  for (const endpoint of all) {
    if (endpoint.node !== node) continue;
    const open = endpoint.publish.find(
      (one) =>
        one.protocol === protocol &&
        one.hostPort === port &&
        [address, ANY_HOST_IP, ANY_HOST_IP6].includes(one.hostIp),
    );
    if (open !== undefined) return { ...named(endpoint), endpoints: [endpoint], port: open.port };
  }
  return hostOf(node);
}

function subnetOwner({ leases, networks }: Records, address: string): Partial<TraceEnd> {
  const ip = IpAddress.parse(address);
  for (const lease of [...leases.values()].flatMap((one) => [...one.values()])) {
    const subnet = subnetIn(lease, ip.family);
    if (subnet?.contains(ip) !== true) continue;
    if (lease.node === undefined)
      return {
        foreign: `the subnet ${subnet.toString()} is that of a flanneld at ${lease.publicIp.toString()}, which tells nothing`,
      };
    const isGateway = gatewayOf(subnet).equals(ip);
    return { node: lease.node, name: isGateway ? `node ${lease.node}` : address };
  }
  const network = [...networks.values()].find((one) => prefixesOf(one).some((prefix) => prefix.contains(ip)));
  return {
    foreign:
      network === undefined
        ? 'it is no address of weft’s'
        : `no node has that part of network ${network.name}, and so nobody has the address`,
  };
}

/** The address to send to. @throws WeftError where the two ends have no family in common */
export function destinationOf(from: TraceEnd, to: TraceEnd): string {
  if (to.address !== undefined) return to.address;
  const networks = new Set(from.endpoints.map(({ network }) => network));
  const candidates = to.endpoints.toSorted(
    (a, b) => Number(networks.has(b.network)) - Number(networks.has(a.network)),
  );
  for (const endpoint of candidates)
    for (const family of FAMILIES) {
      const ip = bareIn(endpoint, family);
      if (ip !== undefined && (from.endpoints.length === 0 || hasFamily(from, ip))) return ip;
    }
  throw invalidArgument(
    `${from.name} and ${to.name} have no addresses of one family`,
    'Name an address that both can use.',
  );
}

const hasFamily = ({ endpoints }: TraceEnd, ip: string): boolean =>
  endpoints.some((endpoint) => bareIn(endpoint, ip.includes(':') ? 6 : 4) !== undefined);
