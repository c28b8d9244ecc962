// What a name means to whom: pure, from the table of names and the networks that the asker is on. The answer may be weft's
// own, or that somebody else has to be asked; what must never leave weft (its domain, its networks' addresses) never does.
import type { IpAddress } from '../../core/address.js';
import { addressOfReverseName } from '../../core/names.js';
import type { Entry, NameTable } from './names.js';
import { TYPE } from './message.js';
import { DOMAIN } from './resolv-conf.js';

/** How the node of an endpoint is: `silent` is down, but not long enough, or not wholly, to take its names away. */
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
      /** What stands behind the name: what is up first, then what may be. */
      entries: readonly Entry[];
      up: number;
    }
  | { kind: 'names'; names: readonly string[] }
  /** The name exists, without anything behind it. */
  | { kind: 'empty' }
  | { kind: 'unknown'; why: string }
  | { kind: 'forward' };

const DOMAIN_SUFFIX = `.${DOMAIN}`;

/**
 * @param name in lower case, without the last dot
 * @param networks those that the asker is on, the one that it asks through first
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

/** Names that are weft's, which nobody else is asked for. */
function inDomain(world: World, name: string, networks: readonly string[]): Meaning {
  const found = inNetwork(world, name, networks) ?? plain(world, name, networks);
  if (found !== undefined) return found;
  if (networks.some((network) => network.toLowerCase() === name)) return { kind: 'empty' };
  return { kind: 'unknown', why: `no network that is asked from has the name ${name}` };
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

/** NAME alone: the first of the networks that has it answers, so that a name is never half of the one and half of another. */
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
  // Nobody outside knows who has an address of a network of weft's.
  return isOverlay(ip)
    ? { kind: 'unknown', why: `nobody on the networks that are asked from has ${ip.toString()}` }
    : { kind: 'forward' };
}

/** The addresses of the type that was asked for; `up` of them are of nodes that are up, and stand first. */
export function addressesOf(
  { entries, up }: Meaning & { kind: 'addresses' },
  type: number,
): { addresses: readonly IpAddress[]; up: number } {
  const wanted = ({ family }: IpAddress): boolean =>
    type === TYPE.ANY || type === (family === 4 ? TYPE.A : TYPE.AAAA);
  const take = (some: readonly Entry[]): IpAddress[] =>
    // Two names of one's own may say the same address as an endpoint has.
    unique(some.flatMap((entry) => entry.addresses.filter(wanted)));
  const first = take(entries.slice(0, up));
  const all = unique([...first, ...take(entries.slice(up))]);
  return { addresses: all, up: first.length };
}

function unique(addresses: readonly IpAddress[]): IpAddress[] {
  if (addresses.length < 2) return [...addresses];
  return [...new Map(addresses.map((ip) => [ip.toString(), ip])).values()];
}

/** A list begun at another place each time: those that are up in turn, and the others in turn behind them. */
export function inTurn<T>(list: readonly T[], up: number, turn: number): T[] {
  const rotated = (some: readonly T[]): T[] => {
    const start = some.length === 0 ? 0 : turn % some.length;
    return [...some.slice(start), ...some.slice(0, start)];
  };
  return [...rotated(list.slice(0, up)), ...rotated(list.slice(up))];
}
