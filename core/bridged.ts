// The networks of the drivers bridge and vlan: one layer 2 instead of routed subnets. Without a parent it lives on each node
// by itself, and every node gives out addresses of the whole subnet. With a parent it is a LAN or a VLAN of the site, shared
// with others; then nodes take blocks of the range through leases, or claim single addresses.
import { addressBits, IpNetwork, type IpAddress } from './address.js';
import { failedPrecondition, invalidArgument } from './errors.js';
import {
  checkUsable,
  hasOwnGateway,
  parseMtu,
  parseInteger,
  parseName,
  parseNetworkName,
  type BridgedNetwork,
  type Network,
  type VlanNetwork,
  type VlanRange,
} from './network.js';
import { LINK_PREFIX, MAX_LINK_NAME } from './objects/index.js';

/** IEEE 802.1Q-2022 §9.6: 12 bits, of which 0 means "no VLAN" and 4095 is reserved. */
export const VLAN_IDS = { first: 1, last: 4094 } as const;

/** What a network of these drivers is made from; what is absent gets its default. */
export interface BridgedSpec {
  name: string;
  driver: 'bridge' | 'vlan';
  subnet: IpNetwork;
  subnet6?: IpNetwork;
  hostPrefix?: number;
  mtu?: number;
  internal?: boolean;
  masquerade?: boolean;
  vlan?: number;
  allowVlan?: readonly VlanRange[];
  parent?: string;
  range?: IpNetwork;
  gateway?: IpAddress;
  gatewayNode?: string;
  force?: boolean;
}

export const isBridged = (network: Network): network is BridgedNetwork => network.driver !== 'overlay';

/**
 * Whose addresses are whose: `subnets`, each node has its own and routes to the others'; `node`, each node has all of
 * them, for containers that no other node sees; `blocks`, nodes take blocks of what they share; `claims`, each address
 * is asked for and claimed.
 */
export function addressingOf(network: Network): 'subnets' | 'node' | 'blocks' | 'claims' {
  if (network.driver === 'overlay') return 'subnets';
  if (network.parent === undefined) return 'node';
  return network.pool === undefined ? 'claims' : 'blocks';
}

/** What the network needs of a node's kernel, in the names of its capabilities. */
export function needsOf(network: Network, node?: string): ('bridge-vlan-filtering' | '802.1q')[] {
  if (network.driver !== 'vlan') return [];
  // Only where the gateway is does the host have a link of its own in the VLAN.
  const elsewhere = node !== undefined && network.gatewayNode !== undefined && network.gatewayNode !== node;
  return hasOwnGateway(network) && !elsewhere
    ? ['bridge-vlan-filtering', '802.1q']
    : ['bridge-vlan-filtering'];
}

/** What stands under BackendType in etcd: a flanneld, and a weft that does not know the driver, leave it alone. */
export const backendTypeOf = (network: Network): string =>
  network.driver === 'overlay' ? network.backend : `weft-${network.driver}`;

/** @throws WeftError INVALID_ARGUMENT */
export const parseVlan = (id: number, field = 'vlan'): number =>
  parseInteger(id, field, VLAN_IDS.first, VLAN_IDS.last);

/** Parses `100,200-210`; answers what it says in order, without overlaps. @throws WeftError INVALID_ARGUMENT */
export function parseVlans(text: string, field = 'allow-vlan'): VlanRange[] {
  const ranges = text.split(',').map((part): VlanRange => {
    const [, first, last] = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part) ?? [];
    if (first === undefined) {
      throw invalidArgument(
        `${field}: "${part}" is not a VLAN id or a range of them`,
        'Write it as 100,200-210.',
      );
    }
    const range = {
      first: parseVlan(Number(first), field),
      last: parseVlan(Number(last ?? first), field),
    };
    if (range.first > range.last)
      throw invalidArgument(`${field}: "${part}" ends before it begins`, 'Write it as 200-210.');
    return range;
  });
  return mergeVlans(ranges);
}

/** In order, with ranges that touch made one. */
export function mergeVlans(ranges: readonly VlanRange[]): VlanRange[] {
  const merged: VlanRange[] = [];
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = merged.at(-1);
    if (before === undefined || before.last + 1 < first) merged.push({ first, last });
    else before.last = Math.max(before.last, last);
  }
  return merged;
}

export const formatVlans = (ranges: readonly VlanRange[]): string =>
  ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(',');

/** Whether a container of the network may be in the VLAN. */
export const allowsVlan = (network: VlanNetwork, id: number): boolean =>
  network.vlan === id || network.allowVlan.some(({ first, last }) => first <= id && id <= last);

/**
 * The VLAN of a container's port: the one asked for, where the network allows it, else the network's own; undefined on
 * networks without VLANs.
 * @throws WeftError INVALID_ARGUMENT, FAILED_PRECONDITION
 */
export function vlanFor(network: Network, asked: number | undefined): number | undefined {
  if (network.driver !== 'vlan') {
    if (asked === undefined) return undefined;
    throw invalidArgument(
      `vlan: network ${network.name} has no VLANs, its driver is ${network.driver}`,
      'Leave --vlan out, or attach to a network of the driver vlan.',
    );
  }
  if (asked === undefined) return network.vlan;
  parseVlan(asked);
  if (allowsVlan(network, asked)) return asked;
  const also = network.allowVlan.length === 0 ? '' : ` and ${formatVlans(network.allowVlan)}`;
  throw failedPrecondition(
    `vlan: network ${network.name} does not allow VLAN ${asked}, only ${network.vlan}${also}`,
    'Create the network with --allow-vlan, or choose another VLAN.',
  );
}

/** The kernel's rule for names of links (net/core/dev.c, dev_valid_name). @throws WeftError INVALID_ARGUMENT */
export function parseParent(text: string): string {
  const bad = (why: string, next: string): Error => invalidArgument(`parent: "${text}" ${why}`, next);
  if (text === 'lo') throw bad('is the loopback', 'Give a network interface or a bridge.');
  if (text.startsWith(LINK_PREFIX)) throw bad("has a name of weft's own links", 'Give a link of the host.');
  if (
    text === '' ||
    text.length > MAX_LINK_NAME ||
    text === '.' ||
    text === '..' ||
    !/^[\x21-\x7e]+$/.test(text) ||
    /[/:%]/.test(text)
  )
    throw bad('is not an interface name', `Give a name such as eth1, at most ${MAX_LINK_NAME} characters.`);
  return text;
}

/** Sixteen nodes at least, or as many as still get four addresses each. */
export function defaultBlock(pool: IpNetwork): number {
  if (pool.length <= 20) return 24;
  return Math.max(pool.length, Math.min(pool.length + 4, 30));
}

/** Checks a spec by itself and fills in what is absent. @throws WeftError INVALID_ARGUMENT */
export function bridgedNetwork(spec: BridgedSpec): BridgedNetwork {
  const name = parseNetworkName(spec.name);
  const { driver, subnet, subnet6 } = spec;
  const parent = spec.parent === undefined ? undefined : parseParent(spec.parent);
  checkPrefix(subnet, 4, 'subnet', 30);
  if (subnet6 !== undefined) {
    checkPrefix(subnet6, 6, 'subnet6', 126);
    if (parent !== undefined) {
      throw invalidArgument(
        'subnet6: a network with a parent gives out IPv4 addresses only',
        'Leave it out: where the parent has a router of IPv6, containers take addresses from its advertisements.',
      );
    }
  }
  if (driver === 'vlan' && spec.vlan === undefined) {
    throw invalidArgument(
      'vlan: not given, and the driver vlan needs one',
      `Give --vlan, from ${VLAN_IDS.first} to ${VLAN_IDS.last}.`,
    );
  }
  if (driver === 'bridge') {
    for (const [field, value] of [
      ['vlan', spec.vlan],
      ['allow-vlan', spec.allowVlan],
      ['gateway-node', spec.gatewayNode],
    ] as const) {
      if (value !== undefined) throw notOf(field, 'bridge', 'vlan');
    }
  }
  if (parent === undefined) {
    if (spec.hostPrefix !== undefined)
      throw needsParent('host-prefix', 'without a parent every node has the whole subnet for itself');
    if (spec.gatewayNode !== undefined)
      throw needsParent('gateway-node', 'without a parent every node has the gateway itself');
    if (spec.force === true) throw needsParent('force', 'there is no link that it would take');
  } else if (spec.internal === true) {
    throw invalidArgument(
      'internal: a network with a parent is joined to what is outside',
      'Leave out --internal, or --parent.',
    );
  }
  const pool = spec.range ?? (driver === 'vlan' && parent !== undefined ? subnet : undefined);
  if (spec.range !== undefined) checkRange(spec.range, subnet);
  const gateway = gatewayOfSpec(spec, parent);
  const shared = parent !== undefined && pool !== undefined;
  const hostPrefix = shared ? blockOf(pool, spec.hostPrefix) : subnet.length;
  if (!shared && spec.hostPrefix !== undefined)
    throw invalidArgument('host-prefix: there is no range that it could divide', 'Give --range, too.');
  const blocks = shared ? pool : subnet;
  const common = {
    name,
    subnet,
    hostPrefix,
    range: {
      first: IpNetwork.of(blocks.base, hostPrefix),
      last: IpNetwork.of(blocks.last, hostPrefix),
    },
    ...(subnet6 !== undefined && {
      subnet6,
      hostPrefix6: subnet6.length,
      range6: { first: subnet6, last: subnet6 },
    }),
    ...(spec.mtu !== undefined && {
      mtu: parseMtu(spec.mtu, subnet6 !== undefined),
    }),
    internal: spec.internal ?? false,
    force: spec.force ?? false,
    ...(parent !== undefined && { parent }),
    ...(pool !== undefined && { pool }),
    ...(gateway !== undefined && { gateway }),
  };
  const masquerade = spec.masquerade ?? true;
  if (driver === 'bridge')
    return { ...common, driver, masquerade: masquerade && parent === undefined && !common.internal };
  const ownGateway = gateway !== undefined && (parent === undefined || spec.gatewayNode !== undefined);
  return {
    ...common,
    driver,
    vlan: parseVlan(spec.vlan ?? 0),
    allowVlan: mergeVlans(spec.allowVlan ?? []),
    masquerade: masquerade && ownGateway && !common.internal,
    ...(spec.gatewayNode !== undefined && { gatewayNode: parseName(spec.gatewayNode, 'gateway-node') }),
  };
}

const notOf = (field: string, driver: string, other: string): Error =>
  invalidArgument(`${field}: the driver ${driver} has none`, `Leave it out, or give --driver ${other}.`);

const needsParent = (field: string, why: string): Error =>
  invalidArgument(`${field}: ${why}`, `Leave it out, or give --parent.`);

function checkPrefix(subnet: IpNetwork, family: 4 | 6, field: string, longest: number): void {
  if (subnet.family !== family)
    throw invalidArgument(`${field}: ${subnet.toString()} is not an IPv${family} prefix`);
  checkUsable(subnet, field);
  if (subnet.length > longest) {
    throw invalidArgument(
      `${field}: ${subnet.toString()} has no room for containers`,
      `The smallest is a /${longest}.`,
    );
  }
}

function checkRange(range: IpNetwork, subnet: IpNetwork): void {
  if (subnet.contains(range)) return;
  throw invalidArgument(
    `range: ${range.toString()} is not inside ${subnet.toString()}`,
    'Give a part of the subnet, such as its upper half.',
  );
}

function blockOf(pool: IpNetwork, asked: number | undefined): number {
  if (asked === undefined) return defaultBlock(pool);
  const most = addressBits(pool.family);
  if (Number.isInteger(asked) && asked >= pool.length && asked <= most) return asked;
  throw invalidArgument(
    `host-prefix: ${asked} does not fit the range ${pool.toString()}`,
    `Give ${pool.length} to ${most}.`,
  );
}

function gatewayOfSpec(
  { driver, subnet, gateway, gatewayNode }: BridgedSpec,
  parent: string | undefined,
): IpAddress | undefined {
  if (gateway === undefined) {
    if (gatewayNode !== undefined)
      throw invalidArgument('gateway-node: there is no gateway that it could have', 'Give --gateway, too.');
    // A bridge of the node itself always has one; every other gateway is somebody's decision.
    return driver === 'bridge' && parent === undefined ? subnet.at(1) : undefined;
  }
  if (gateway.family !== 4 || !subnet.contains(gateway)) {
    throw invalidArgument(
      `gateway: ${gateway.toString()} is not inside ${subnet.toString()}`,
      'Give an address of the subnet.',
    );
  }
  if (gateway.equals(subnet.base) || gateway.equals(subnet.last)) {
    throw invalidArgument(
      `gateway: ${gateway.toString()} is the ${gateway.equals(subnet.base) ? 'base' : 'broadcast'} address of ${subnet.toString()}`,
      'Give an address of a host.',
    );
  }
  return gateway;
}

/**
 * A parent is taken by one network of the driver bridge, or by any number of VLANs that differ. Without a parent all VLANs
 * of a node are on one bridge, too.
 * @throws WeftError FAILED_PRECONDITION naming the network that is in the way
 */
export function checkParent(network: Network, others: Iterable<Network>): void {
  if (network.driver === 'overlay') return;
  const { name, parent } = network;
  for (const other of others) {
    if (other.driver === 'overlay' || other.name === name || other.parent !== parent) continue;
    if (network.driver === 'vlan' && other.driver === 'vlan') {
      if (network.vlan !== other.vlan) continue;
      throw failedPrecondition(
        `network ${name}: VLAN ${network.vlan}${parent === undefined ? '' : ` on ${parent}`} is network ${other.name}`,
        'Attach to that network, or choose another VLAN.',
      );
    }
    if (parent === undefined) continue;
    throw failedPrecondition(
      `network ${name}: ${parent} is the parent of network ${other.name} (driver ${other.driver}) already`,
      'Attach to that network, choose another parent, or remove that network first.',
    );
  }
}
