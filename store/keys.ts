// All keys of the cluster in etcd, built and parsed in one place.
//
// Below networks/NAME is exactly what flannel's etcd v3 subnet manager has below its prefix, and, under names that flannel
// never reads, what only weft keeps.
import { addressBits, IpAddress, IpNetwork } from '../core/address.js';
import { messageOf } from '../core/errors.js';
import { parseDnsName } from '../core/names.js';
import { parseName, parseNetworkName } from '../core/network.js';

/** The meaning of a key. `other` belongs to another program and is ignored. */
export type ParsedKey =
  | { kind: 'network'; name: string }
  | { kind: 'lease'; network: string; subnet: IpNetwork; subnet6?: IpNetwork }
  | { kind: 'endpoint'; network: string; id: string }
  | { kind: 'endpointName'; network: string; name: string }
  | { kind: 'claim'; network: string; ip: IpAddress }
  | { kind: 'ownName'; network: string; name: string }
  | { kind: 'node'; name: string }
  | { kind: 'alive'; name: string }
  | { kind: 'policy'; name: string }
  | { kind: 'removal'; of: 'network' | 'node'; name: string }
  | { kind: 'allocated' }
  | { kind: 'leader'; election: string }
  | { kind: 'other' }
  | { kind: 'bad'; why: string };

/** A range of keys in etcd's form: [key, end). */
export interface KeyRange {
  key: Buffer;
  range_end: Buffer;
}

export class Keys {
  /** Without the trailing slash. */
  readonly prefix: string;

  constructor(prefix: string) {
    this.prefix = prefix.replace(/\/+$/, '');
  }

  /** Of all networks; as all starts, with "/" at its end. */
  networks(): string {
    return `${this.prefix}/networks/`;
  }
  network(name: string): string {
    return `${this.networks()}${name}/`;
  }
  config(network: string): string {
    return `${this.network(network)}config`;
  }
  subnets(network: string): string {
    return `${this.network(network)}subnets/`;
  }
  lease(network: string, subnet: IpNetwork, subnet6?: IpNetwork): string {
    return `${this.subnets(network)}${formatSubnetKey(subnet, subnet6)}`;
  }
  endpoints(network: string): string {
    return `${this.network(network)}endpoints/`;
  }
  endpoint(network: string, id: string): string {
    return `${this.endpoints(network)}${id}`;
  }
  /** Holds the id of the endpoint that requested this name, so that no two have it. */
  endpointName(network: string, name: string): string {
    return `${this.network(network)}names/${name}`;
  }
  claim(network: string, ip: string): string {
    return `${this.network(network)}claims/${ip}`;
  }
  ownName(network: string, name: string): string {
    return `${this.network(network)}dns/${name}`;
  }
  node(name: string): string {
    return `${this.prefix}/nodes/${name}`;
  }
  alive(node: string): string {
    return `${this.node(node)}/alive`;
  }
  policy(name: string): string {
    return `${this.policies()}${name}`;
  }
  policies(): string {
    return `${this.prefix}/policies/`;
  }
  removal(kind: 'network' | 'node', name: string): string {
    return `${this.removals(kind)}${name}`;
  }
  removals(kind: 'network' | 'node'): string {
    return `${this.prefix}/removed/${kind}s/`;
  }
  /** Written with every creation and removal of a network: if its revision is unchanged, so is the set of networks. */
  allocated(): string {
    return `${this.prefix}/allocated`;
  }
  leader(election: string): string {
    return `${this.prefix}/elections/${election}`;
  }

  token(id: string): string {
    return `${this.prefix}/tokens/${id}`;
  }
  certificate(serial: string): string {
    return `${this.prefix}/certificates/${serial}`;
  }

  /** Hashes of the CAs that nodes must trust, for controllers that are no authority. */
  authorities(): string {
    return `${this.prefix}/authorities`;
  }

  proposals(): string {
    return `${this.prefix}/proposals/`;
  }
  proposal(whole: IpNetwork, subnet: IpNetwork): string {
    return `${this.proposals()}${formatSubnetKey(whole)}/${formatSubnetKey(subnet)}`;
  }

  /** All keys below the prefix. */
  all(): KeyRange {
    return rangeOf(`${this.prefix}/`);
  }

  parse(key: string): ParsedKey {
    if (!key.startsWith(`${this.prefix}/`)) return { kind: 'other' };
    const [area, ...path] = key.slice(this.prefix.length + 1).split('/');
    try {
      switch (area) {
        case 'networks':
          return parseNetworkKey(path);
        case 'nodes':
          return parseNodeKey(path);
        case 'policies':
          return path.length === 1 ? { kind: 'policy', name: parseName(path[0] ?? '') } : { kind: 'other' };
        case 'removed':
          return parseRemovalKey(path);
        case 'allocated':
          return path.length === 0 ? { kind: 'allocated' } : { kind: 'other' };
        case 'elections':
          return path.length === 1 ? { kind: 'leader', election: path[0] ?? '' } : { kind: 'other' };
        default:
          return { kind: 'other' };
      }
    } catch (error) {
      return { kind: 'bad', why: `the key cannot be read: ${messageOf(error)}` };
    }
  }
}

/** All keys that begin with `start`. */
export function rangeOf(start: string): KeyRange {
  const key = Buffer.from(start);
  const end = Buffer.from(key);
  // Every such start of weft's ends with "/", so the last byte can always be incremented.
  end[end.length - 1] = (end[end.length - 1] ?? 0) + 1;
  return { key, range_end: end };
}

function parseNetworkKey([network, what, ...rest]: string[]): ParsedKey {
  const name = parseNetworkName(network ?? '');
  const last = rest.length === 1 ? rest[0] : undefined;
  if (what === 'config' && rest.length === 0) return { kind: 'network', name };
  if (last === undefined) return { kind: 'other' };
  switch (what) {
    case 'subnets':
      return { kind: 'lease', network: name, ...parseSubnetKey(last) };
    case 'endpoints':
      if (!/^[0-9a-f]{1,64}$/.test(last))
        throw new Error(`"${last}" is not an endpoint's id: hexadecimal digits`);
      return { kind: 'endpoint', network: name, id: last };
    case 'names':
      return { kind: 'endpointName', network: name, name: last };
    case 'claims':
      return { kind: 'claim', network: name, ip: IpAddress.parse(last) };
    case 'dns':
      return { kind: 'ownName', network: name, name: parseDnsName(last) };
    default:
      return { kind: 'other' };
  }
}

function parseNodeKey([node, what, ...rest]: string[]): ParsedKey {
  if (rest.length > 0) return { kind: 'other' };
  const name = parseName(node ?? '');
  if (what === undefined) return { kind: 'node', name };
  return what === 'alive' ? { kind: 'alive', name } : { kind: 'other' };
}

function parseRemovalKey([of, name, ...rest]: string[]): ParsedKey {
  if (rest.length > 0 || name === undefined) return { kind: 'other' };
  if (of === 'networks') return { kind: 'removal', of: 'network', name: parseNetworkName(name) };
  if (of === 'nodes') return { kind: 'removal', of: 'node', name: parseName(name) };
  return { kind: 'other' };
}

/** The IPv4 half of a key where the network has no IPv4: flannel's empty prefix. */
const NO_IPV4 = '0.0.0.0-0';

/**
 * The last part of a lease's key, as flannel's MakeSubnetKey writes it: `10.100.5.0-24`, for two families
 * `10.100.5.0-24&fd42:100:0:5::-64`, and for IPv6 alone `0.0.0.0-0&fd42:100:0:5::-64`. The colons stay: flannel parses such a key with ([a-f\d:]+)-(\d+), and a
 * flanneld that receives an event of a key that it cannot parse forgets all its peers (watchSubnets, then Reset).
 */
export function formatSubnetKey(subnet: IpNetwork, subnet6?: IpNetwork): string {
  const one = (network: IpNetwork): string => `${network.base.toString()}-${network.length}`;
  if (subnet.family === 6) return `${NO_IPV4}&${one(subnet)}`;
  return subnet6 === undefined ? one(subnet) : `${one(subnet)}&${one(subnet6)}`;
}

/** Reads both spellings of the IPv6 half: with ":" and with "-". @throws Error with the reason */
export function parseSubnetKey(text: string): { subnet: IpNetwork; subnet6?: IpNetwork } {
  const [first = '', second, ...rest] = text.split('&');
  if (rest.length > 0) throw new Error(`"${text}" has more than two subnets`);
  const subnet6 = second === undefined ? undefined : parseHalf(second, 6, text);
  if (subnet6 !== undefined && first === NO_IPV4) return { subnet: subnet6 };
  const subnet = parseHalf(first, 4, text);
  return subnet6 === undefined ? { subnet } : { subnet, subnet6 };
}

function parseHalf(half: string, family: 4 | 6, whole: string): IpNetwork {
  const match = /^(.*)-(\d{1,3})$/.exec(half);
  const base = IpAddress.tryParse(
    family === 4 ? (match?.[1] ?? '') : (match?.[1] ?? '').replaceAll('-', ':'),
  );
  const length = Number(match?.[2]);
  if (base === undefined || base.family !== family || length > addressBits(family)) {
    throw new Error(`"${whole}" is not a subnet; expected 10.100.5.0-24 or 10.100.5.0-24&fd42:100:0:5::-64`);
  }
  const subnet = IpNetwork.of(base, length);
  if (!subnet.base.equals(base))
    throw new Error(`"${whole}" has host bits set; did you mean ${subnet.toString()}?`);
  return subnet;
}
