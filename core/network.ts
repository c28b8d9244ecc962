// The network record and its validation: flannel's subnet rules, and weft's.
//
// The same checks serve `weft network create`, the gRPC services and configs written into etcd by hand.
import { addressBits, IpNetwork, type IpAddress } from './address.js';
import type { Manager } from './manager.js';
import {
  ENCRYPTED_BACKEND,
  UNROUTED,
  type BackendSpec,
  type BackendType,
  type BackendTypes,
} from './backends/types.js';
import { invalidArgument } from './errors.js';

export type Network = OverlayNetwork | BridgedNetwork;

interface Common {
  name: string;
  /** IPv4, or IPv6 where the network has no IPv4. */
  subnet: IpNetwork;
  /** The IPv6 prefix beside an IPv4 one. */
  subnet6?: IpNetwork;
  /** Prefix length of a node's part: an overlay's subnet, a block of a shared range, or all. */
  hostPrefix: number;
  /** The same for IPv6; present where subnet6 is. */
  hostPrefix6?: number;
  /** First and last subnet for nodes, both included. */
  range: SubnetRange;
  range6?: SubnetRange;
  /** Requested MTU; absent: the underlay's less the overhead, or the parent's. */
  mtu?: number;
  internal: boolean;
  masquerade: boolean;
  /** Hosts may join although they have other routes inside it; of a network with a parent: it may carry the underlay. */
  force?: boolean;
  /** Created by a plugin: it is deleted with its last node. */
  madeBy?: Manager;
  /** Its containers may send with any address. Absent: only with their own. */
  portSecurity?: false;
  /** Whether what is not published is reached from outside. Absent: as its containers' addresses are seen outside, or not. */
  directAccess?: boolean;
  /** Its containers admit only what a policy allows. */
  isolated?: true;
  /** Networks that it may reach, and that may reach it; it is enough if one of two names the other. */
  routes?: string[];
}

interface Overlay extends Common {
  driver: 'overlay';
  /**
   * The network with another backend, while it moves from one to the other: its devices and peers are there as well, and no
   * route leads to them.
   */
  beside?: OverlayNetwork;
}

/** Node subnets joined by a backend, whose own settings are part of the record. */
export type OverlayNetwork<T extends BackendType = BackendType> = {
  [K in T]: Overlay & { backend: K } & BackendTypes[K]['config'];
}[T];

/** One layer 2, on each node by itself or through a link of the nodes (drivers/layer2.ts). */
export type BridgedNetwork = BridgeNetwork | VlanNetwork;

interface Bridged extends Common {
  /** The link of each node that joins it: a NIC, or a bridge. Absent: the network exists on each node by itself. */
  parent?: string;
  force: boolean;
  /** The address pool; with a parent and without a range, only requested addresses are given out. */
  pool?: IpNetwork;
  /** The containers' gateway: the node's own address if `hasOwnGateway`, otherwise a router's. */
  gateway?: IpAddress;
}

export interface BridgeNetwork extends Bridged {
  driver: 'bridge';
}

export interface VlanNetwork extends Bridged {
  driver: 'vlan';
  vlan: number;
  /** Other VLANs that single containers may be put into. */
  allowVlan: readonly VlanRange[];
  /** The node that has the gateway's address on the VLAN, if there is a parent. */
  gatewayNode?: string;
}

/** VLAN ids from first to last, both included. */
export interface VlanRange {
  first: number;
  last: number;
}

/** The input of a network; absent fields get their defaults. IPv6 alone is `subnet`, with `hostPrefix`. */
export interface NetworkSpec extends BackendSpec {
  name: string;
  subnet: IpNetwork;
  subnet6?: IpNetwork;
  hostPrefix?: number;
  hostPrefix6?: number;
  mtu?: number;
  internal?: boolean;
  masquerade?: boolean;
  force?: boolean;
  portSecurity?: boolean;
  directAccess?: boolean;
  isolated?: boolean;
  /** Created by a plugin: it is deleted with its last node. */
  madeBy?: Manager;
  /** Absent: overlay. The fields below belong to the other two. */
  driver?: Network['driver'];
  vlan?: number;
  allowVlan?: readonly VlanRange[];
  parent?: string;
  range?: IpNetwork;
  gateway?: IpAddress;
  gatewayNode?: string;
}

/**
 * The prefixes of a spec as people give them: one of each family, or one of the two.
 * @throws WeftError INVALID_ARGUMENT
 */
export function prefixesFrom(given: {
  subnet?: IpNetwork | undefined;
  subnet6?: IpNetwork | undefined;
  hostPrefix?: number | undefined;
  hostPrefix6?: number | undefined;
}): Pick<NetworkSpec, 'subnet' | 'subnet6' | 'hostPrefix' | 'hostPrefix6'> {
  const { subnet, subnet6, hostPrefix, hostPrefix6 } = given;
  for (const [prefix, length, six] of [
    [subnet, hostPrefix, ''],
    [subnet6, hostPrefix6, '6'],
  ] as const)
    if (prefix === undefined && length !== undefined)
      throw invalidArgument(
        `host-prefix${six}: the network has no IPv${six || 4} subnet`,
        `Give one with --subnet${six}, or leave it out.`,
      );
  const first = subnet ?? subnet6;
  if (first === undefined)
    throw invalidArgument(
      'subnet: not given',
      'Give the prefix that the containers are to have, such as --subnet 10.100.0.0/16, --subnet6 fd42:100::/48, or both.',
    );
  const length = subnet === undefined ? hostPrefix6 : hostPrefix;
  return {
    subnet: first,
    ...(length !== undefined && { hostPrefix: length }),
    ...(subnet !== undefined && subnet6 !== undefined && { subnet6 }),
    ...(subnet !== undefined && hostPrefix6 !== undefined && { hostPrefix6 }),
  };
}

export interface SubnetRange {
  first: IpNetwork;
  last: IpNetwork;
}

/** The name of a field as a flag of the command line has it. */
export const flagOf = (field: string): string =>
  field.replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** RFC 791: every IPv4 link carries 68 octets; RFC 8200 §5: every IPv6 link 1280. */
export const MIN_MTU = { 4: 68, 6: 1280 } as const;
/** The largest MTU of an Ethernet-like link of Linux. */
const MAX_MTU = 65_535;

/** @param dual the network has IPv6. @throws WeftError INVALID_ARGUMENT */
export const parseMtu = (value: number, dual: boolean): number =>
  parseInteger(value, 'mtu', MIN_MTU[dual ? 6 : 4], MAX_MTU);

const NETWORK_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$/;
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/;

/** @throws WeftError INVALID_ARGUMENT */
export function parseNetworkName(text: string): string {
  if (!NETWORK_NAME.test(text)) {
    throw invalidArgument(
      `name: "${text}" is not a network name`,
      'Use letters, digits, _ and -, beginning with a letter or digit, at most 63 characters.',
    );
  }
  return text;
}

/** Whether it can be the name of a node, endpoint or alias: Docker's grammar. */
export const isName = (text: string): boolean => NAME.test(text);

/** @throws WeftError INVALID_ARGUMENT */
export function parseName(text: string, field = 'name'): string {
  if (!isName(text)) {
    throw invalidArgument(
      `${field}: "${text}" is not a valid name`,
      'Use letters, digits, _ . and -, beginning with a letter or digit, at most 128 characters.',
    );
  }
  return text;
}

/** Of one endpoint, whose record has room for so many of the longest. */
export const MAX_ALIASES = 256;

/** @throws WeftError INVALID_ARGUMENT */
export function parseAliases(texts: readonly string[]): string[] {
  if (texts.length > MAX_ALIASES) {
    throw invalidArgument(
      `${texts.length} aliases are too many for one container`,
      `At most ${MAX_ALIASES} are allowed.`,
    );
  }
  return texts.map((text) => parseName(text, 'alias'));
}

/** @throws WeftError INVALID_ARGUMENT */
export function parseInteger(value: number, field: string, min: number, max: number): number {
  if (!Number.isInteger(value) || value < min || value > max) {
    throw invalidArgument(`${field}: ${value} is out of range`, `Give a whole number from ${min} to ${max}.`);
  }
  return value;
}

const LIMITS = {
  // flannel: room for a gateway and a container in each subnet, and at least four subnets, the first of which stays free.
  4: { longestNetwork: 28, longestSubnet: 30, usualSubnet: 24, usualUpTo: 22, splitBy: 2 },
  6: { longestNetwork: 110, longestSubnet: 126, usualSubnet: 64, usualUpTo: 62, splitBy: 16 },
} as const;

export function defaultHostPrefix(subnet: IpNetwork): number {
  const { usualSubnet, usualUpTo, splitBy } = LIMITS[subnet.family];
  return subnet.length <= usualUpTo
    ? usualSubnet
    : Math.min(subnet.length + splitBy, LIMITS[subnet.family].longestSubnet);
}

/** Prefix length of the nodes' subnets: the requested one, checked, or the default. @throws WeftError INVALID_ARGUMENT */
export function parseHostPrefix(subnet: IpNetwork, asked: number | undefined, field: string): number {
  const { longestNetwork, longestSubnet } = LIMITS[subnet.family];
  if (subnet.length > longestNetwork && asked === undefined) {
    throw invalidArgument(
      `subnet: ${subnet.toString()} is too small to be shared among nodes`,
      `The smallest network is a /${longestNetwork}.`,
    );
  }
  const prefix = asked ?? defaultHostPrefix(subnet);
  const shortest = subnet.length + 2;
  if (!Number.isInteger(prefix) || prefix < shortest || prefix > longestSubnet) {
    throw invalidArgument(
      `${field}: ${prefix} does not fit ${subnet.toString()}`,
      shortest > longestSubnet
        ? `Choose a larger network: at least a /${longestSubnet - 2}.`
        : `A network needs at least four node subnets and each at least two containers: give ${shortest} to ${longestSubnet}.`,
    );
  }
  return prefix;
}

/** First and last subnet for nodes; flannel leaves the network's first one free. @throws WeftError INVALID_ARGUMENT */
export function parseRange(
  subnet: IpNetwork,
  hostPrefix: number,
  min: IpAddress | undefined,
  max: IpAddress | undefined,
  fields: { min: string; max: string } = { min: 'SubnetMin', max: 'SubnetMax' },
): SubnetRange {
  const size = 1n << BigInt(addressBits(subnet.family) - hostPrefix);
  const bound = (address: IpAddress | undefined, otherwise: IpAddress, field: string): IpNetwork => {
    if (address === undefined) return IpNetwork.of(otherwise, hostPrefix);
    if (!subnet.contains(address)) {
      throw invalidArgument(`${field}: ${address.toString()} is not inside ${subnet.toString()}`);
    }
    const network = IpNetwork.of(address, hostPrefix);
    if (!network.base.equals(address)) {
      throw invalidArgument(
        `${field}: ${address.toString()} is not the base of a /${hostPrefix}`,
        `Did you mean ${network.base.toString()}?`,
      );
    }
    return network;
  };
  const first = bound(min, subnet.at(size), fields.min);
  const last = bound(max, subnet.at(subnet.size - size), fields.max);
  if (first.base.value > last.base.value) {
    throw invalidArgument(
      `${fields.min}: ${first.base.toString()} lies after ${fields.max} ${last.base.toString()}`,
    );
  }
  return { first, last };
}

/** Whether the network would lease this node subnet now. */
export function fitsRange(range: SubnetRange, hostPrefix: number, subnet: IpNetwork): boolean {
  return (
    subnet.length === hostPrefix &&
    subnet.base.value >= range.first.base.value &&
    subnet.base.value <= range.last.base.value
  );
}

/** Prefixes that cannot be a container network. RFC 6890. */
const RESERVED = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '240.0.0.0/4',
  'fe80::/10',
  'ff00::/8',
  '::/96',
].map((text) => IpNetwork.parse(text));

/** @throws WeftError INVALID_ARGUMENT for loopback, link-local, multicast and the like */
export function checkUsable(subnet: IpNetwork, field: string): void {
  const reserved = RESERVED.find((other) => other.overlaps(subnet));
  if (reserved !== undefined) {
    throw invalidArgument(
      `${field}: ${subnet.toString()} overlaps the reserved ${reserved.toString()}`,
      'Choose a private range, such as one inside 10.0.0.0/8 or fd00::/8.',
    );
  }
}

export const prefixesOf = (network: Pick<Network, 'subnet' | 'subnet6'>): IpNetwork[] =>
  network.subnet6 === undefined ? [network.subnet] : [network.subnet, network.subnet6];

/** The optional fields of a record that say who may send what to whom. */
export const securityOf = ({
  portSecurity,
  directAccess,
  isolated,
}: Pick<NetworkSpec, 'portSecurity' | 'directAccess' | 'isolated'>): Pick<
  Common,
  'portSecurity' | 'directAccess' | 'isolated'
> => ({
  ...(portSecurity === false && { portSecurity }),
  ...(directAccess !== undefined && { directAccess }),
  ...(isolated === true && { isolated }),
});

/** Whether the LAN and other bridges reach what a network's containers do not publish. */
export const hasDirectAccess = ({ directAccess, masquerade, internal }: Network): boolean =>
  !internal && (directAccess ?? !masquerade);

/** Whether packets between the network's containers may leave a node only encrypted. */
export const isEncrypted = (network: Network): boolean =>
  'backend' in network && network.backend === ENCRYPTED_BACKEND;

/** Why a network is routed with no other, after its name; undefined: it can be. */
export function whyUnrouted(network: Network): string | undefined {
  if (network.internal) return 'is internal: it reaches nothing but itself';
  return 'backend' in network ? UNROUTED[network.backend] : undefined;
}

/** Whether two networks reach each other. Some reach nothing, whatever a record allows: answers would take the other's tunnels. */
export const areRouted = (a: Network, b: Network): boolean =>
  a.name !== b.name &&
  whyUnrouted(a) === undefined &&
  whyUnrouted(b) === undefined &&
  (a.routes?.includes(b.name) === true || b.routes?.includes(a.name) === true);
