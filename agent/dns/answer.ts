// Meaning of a DNS name for a client, as a pure function.
//
// It depends on the table of names and the client's networks. The result is weft's own answer, or that the query is forwarded;
// what must stay inside weft (its domain, the addresses of its networks) is never forwarded.
import type { IpAddress } from '../../core/address.js';
import { addressOfReverseName } from '../../core/names.js';
import type { Entry, NameTable } from './names.js';
import { TYPE } from './message.js';
import { DOMAIN } from './resolv-conf.js';

/** Health of an endpoint's node. `silent`: down, but only briefly or still answering on the underlay; its names remain. */
export type NodeHealth = 'up' | 'silent' | 'gone';

export interface World {
  table: NameTable;
  healthOf: (node: string) => NodeHealth;
  /** Whether the address belongs to one of weft's networks. */
  isOverlay: (ip: IpAddress) => boolean;
}

export type Meaning =
  | {
      kind: 'addresses';
      network: string;
      /** The entries of the name: those that are up first, then those that may be. */
      entries: readonly Entry[];
      up: number;
    }
  | { kind: 'names'; names: readonly string[] }
  /** The name exists, without records. */
  | { kind: 'empty' }
  | { kind: 'unknown'; why: string }
  | { kind: 'forward' };

const DOMAIN_SUFFIX = `.${DOMAIN}`;

/**
 * @param name in lower case, without the trailing dot
 * @param networks the client's networks, the one of its source address first
 */
export function meaningOf(world: World, name: string, type: number, networks: readonly string[]): Meaning {
  const ip = addressOfReverseName(name);
  if (ip !== undefined) return reverse(world, ip, type, networks);
  if (name === DOMAIN) return { kind: 'empty' };
  if (name.endsWith(DOMAIN_SUFFIX)) {
    return inDomain(world, name.slice(0, -DOMAIN_SUFFIX.length), networks);
  }
  return inNetwork(world, name, networks) ?? plain(world, name, networks) ?? { kind: 'forward' };
}

/** Names in weft's domain, which are never forwarded. */
function inDomain(world: World, name: string, networks: readonly string[]): Meaning {
  const found = inNetwork(world, name, networks) ?? plain(world, name, networks);
  if (found !== undefined) return found;
  if (networks.some((network) => network.toLowerCase() === name)) return { kind: 'empty' };
  return { kind: 'unknown', why: `no network of the client has the name ${name}` };
}

/** NAME.NETWORK */
function inNetwork(world: World, name: string, networks: readonly string[]): Meaning | undefined {
  for (const network of networks) {
    const suffix = `.${network.toLowerCase()}`;
    if (!name.endsWith(suffix)) continue;
    const found = addresses(world, network, name.slice(0, -suffix.length));
    if (found !== undefined) return found;
  }
  return undefined;
}

/** NAME alone: the first network that has the name answers, so that an answer never mixes two networks. */
function plain(world: World, name: string, networks: readonly string[]): Meaning | undefined {
  for (const network of networks) {
    const found = addresses(world, network, name);
    if (found !== undefined) return found;
  }
  return undefined;
}

function addresses({ table, healthOf }: World, network: string, name: string): Meaning | undefined {
  const all = table.find(network, name);
  if (all.length === 0) return undefined;
  const up: Entry[] = [];
  const silent: Entry[] = [];
  for (const entry of all) {
    const health = entry.origin.kind === 'own' ? 'up' : healthOf(entry.origin.node);
    if (health === 'up') up.push(entry);
    else if (health === 'silent') silent.push(entry);
  }
  if (up.length + silent.length === 0) return undefined;
  return { kind: 'addresses', network, entries: [...up, ...silent], up: up.length };
}

function reverse(world: World, ip: IpAddress, type: number, networks: readonly string[]): Meaning {
  const { table, healthOf, isOverlay } = world;
  const names = table
    .findAddress(ip.toString())
    .filter(({ network, names: all, origin }) => {
      const reachable = origin.kind === 'own' || healthOf(origin.node) !== 'gone';
      return reachable && all.length > 0 && networks.includes(network);
    })
    .map((entry) => `${entry.names[0] ?? ''}.${entry.network}.${DOMAIN}`);
  if (names.length > 0) {
    return type === TYPE.PTR || type === TYPE.ANY
      ? { kind: 'names', names: [...new Set(names)] }
      : { kind: 'empty' };
  }
  // No server outside weft knows the addresses of weft's networks.
  return isOverlay(ip)
    ? { kind: 'unknown', why: `no endpoint on the client's networks has ${ip.toString()}` }
    : { kind: 'forward' };
}

/** The addresses of the queried type; the first `up` of them are of nodes that are up. */
export function addressesOf(
  { entries, up }: Meaning & { kind: 'addresses' },
  type: number,
): { addresses: readonly IpAddress[]; up: number } {
  const wanted = ({ family }: IpAddress): boolean =>
    type === TYPE.ANY || type === (family === 4 ? TYPE.A : TYPE.AAAA);
  const take = (some: readonly Entry[]): IpAddress[] =>
    // Names added by hand may have the same address as an endpoint.
    unique(some.flatMap((entry) => entry.addresses.filter(wanted)));
  const first = take(entries.slice(0, up));
  const all = unique([...first, ...take(entries.slice(up))]);
  return { addresses: all, up: first.length };
}

function unique(addresses: readonly IpAddress[]): IpAddress[] {
  if (addresses.length < 2) return [...addresses];
  return [...new Map(addresses.map((ip) => [ip.toString(), ip])).values()];
}

/** Rotates a list by `turn`: the entries that are up among themselves, then the others among themselves. */
export function inTurn<T>(list: readonly T[], up: number, turn: number): T[] {
  const rotated = (some: readonly T[]): T[] => {
    const start = some.length === 0 ? 0 : turn % some.length;
    return [...some.slice(start), ...some.slice(0, start)];
  };
  return [...rotated(list.slice(0, up)), ...rotated(list.slice(up))];
}
