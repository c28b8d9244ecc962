// The address space of each network as strips: subnets of nodes, addresses in use, claims outside of them, overlaps.
import type { Endpoint, Network } from '../../proto/gen/weft/v1/types.js';
import { contains, overlaps, rangeOf, share, type Range } from './prefix.js';
import type { Cluster } from './store.js';

/** From this part on a space is near its end. */
const NEAR = 0.8;

export interface Piece {
  /** Place in the space, 0 to 1. */
  from: number;
  width: number;
  subnet: string;
  /** Of the lease; null: a flanneld. */
  node: string | null;
  /** Addresses of endpoints in it. */
  used: number;
  /** Those that it can give out: without its base, gateway and broadcast address. */
  room: number;
  isNearEnd: boolean;
}

export interface Strip {
  network: string;
  space: string;
  pieces: Piece[];
  /** Addresses of endpoints on another node than that of the lease, or in no lease. */
  claims: { ip: string; endpoint: string; node: string; at: number }[];
  /** Part of the space that is leased, or of a network without leases in use. */
  taken: number;
  isNearEnd: boolean;
  /** Networks whose space overlaps. */
  overlaps: string[];
}

interface Address {
  address: string;
  range: Range | undefined;
}

/** An endpoint that changes is another object: of tens of thousands only those are parsed again. */
const parsed = [new WeakMap<Endpoint, Address>(), new WeakMap<Endpoint, Address>()] as const;

function addressOf(endpoint: Endpoint, is6: boolean): Address {
  const known = parsed[is6 ? 1 : 0].get(endpoint);
  if (known !== undefined) return known;
  const address = (is6 ? (endpoint.ip6 ?? '') : endpoint.ip).replace(/\/\d+$/, '');
  const found = { address, range: rangeOf(address) };
  parsed[is6 ? 1 : 0].set(endpoint, found);
  return found;
}

/** Those near their end, and those that overlap, first. */
export function stripsOf({ networks, endpoints }: Pick<Cluster, 'networks' | 'endpoints'>): Strip[] {
  const byNetwork = new Map<string, Endpoint[]>();
  for (const endpoint of endpoints.values()) {
    const list = byNetwork.get(endpoint.network);
    if (list === undefined) byNetwork.set(endpoint.network, [endpoint]);
    else list.push(endpoint);
  }
  const spaces = [...networks.values()].flatMap((network) =>
    [network.subnet, network.subnet6 ?? ''].flatMap((space) => {
      const range = rangeOf(space);
      return range === undefined ? [] : [{ network, space, range }];
    }),
  );
  const strips = spaces.map(({ network, space, range }) => ({
    ...stripOf(network, space, range, byNetwork.get(network.name) ?? []),
    overlaps: spaces
      .filter((other) => other.network !== network && isSameFamily(space, other.space))
      .filter((other) => overlaps(range, other.range))
      .map((other) => other.network.name),
  }));
  const weight = (strip: Strip): number => (strip.overlaps.length > 0 ? 2 : strip.isNearEnd ? 1 : 0);
  return strips.sort((a, b) => weight(b) - weight(a) || (a.network < b.network ? -1 : 1));
}

const isSameFamily = (a: string, b: string): boolean => a.includes(':') === b.includes(':');

function stripOf(
  network: Network,
  space: string,
  whole: Range,
  endpoints: readonly Endpoint[],
): Omit<Strip, 'overlaps'> {
  const is6 = space.includes(':');
  const leases = network.leases.flatMap(({ node, subnet, subnet6 = '' }) => {
    const text = is6 ? subnet6 : subnet;
    const range = rangeOf(text);
    return range === undefined ? [] : [{ range, text, node: node ?? null, used: 0 }];
  });
  leases.sort((a, b) => (a.range.from < b.range.from ? -1 : 1));
  const claims: Strip['claims'] = [];
  let used = 0;
  for (const endpoint of endpoints) {
    const { address, range } = addressOf(endpoint, is6);
    if (range === undefined || !contains(whole, range)) continue;
    used += 1;
    const lease = leaseWith(leases, range);
    if (lease !== undefined) lease.used += 1;
    if (lease?.node === endpoint.node || leases.length === 0) continue;
    claims.push({
      ip: address,
      endpoint: endpoint.id,
      node: endpoint.node,
      at: share(range.from - whole.from, whole.size),
    });
  }
  const leased = leases.reduce((sum, { range }) => sum + range.size, 0n);
  const taken = leases.length > 0 ? share(leased, whole.size) : share(BigInt(used), whole.size);
  const pieces = leases.map(({ range, text, node, used }): Piece => {
    const room = Number(range.size > 1_000_000n ? 1_000_000n : range.size) - 3;
    return {
      ...{ subnet: text, node, used, room, isNearEnd: used >= room * NEAR },
      ...{ from: share(range.from - whole.from, whole.size), width: share(range.size, whole.size) },
    };
  });
  const isNearEnd = taken >= NEAR || pieces.some((piece) => piece.isNearEnd);
  return { network: network.name, space, pieces, claims, taken, isNearEnd };
}

/** @param leases sorted, and without overlaps */
function leaseWith<T extends { range: Range }>(leases: readonly T[], address: Range): T | undefined {
  let [low, high] = [0, leases.length - 1];
  while (low <= high) {
    const middle = (low + high) >> 1;
    const lease = leases[middle];
    if (lease === undefined) return undefined;
    if (contains(lease.range, address)) return lease;
    if (lease.range.from < address.from) low = middle + 1;
    else high = middle - 1;
  }
  return undefined;
}
