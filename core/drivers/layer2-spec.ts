// Specs of the drivers bridge and vlan: checks and defaults.
//
// Without a parent such a network exists on each node by itself, and every node gives out addresses of the whole subnet. With
// a parent it is a LAN or a VLAN of the site, shared with other hosts; then nodes lease blocks of the range, or claim single
// addresses.
import { addressBits, IpNetwork, type IpAddress } from '../address.js';
import { invalidArgument } from '../errors.js';
import {
  checkUsable,
  parseMtu,
  parseNetworkName,
  securityOf,
  type BridgeNetwork,
  type NetworkSpec,
} from '../network.js';
import { isLinkName, LINK_PREFIX, MAX_LINK_NAME } from '../objects/index.js';

/** @throws WeftError INVALID_ARGUMENT */
export function parseParent(text: string): string {
  const bad = (why: string, next: string): Error => invalidArgument(`parent: "${text}" ${why}`, next);
  if (text === 'lo') throw bad('is the loopback', 'Give a network interface or a bridge.');
  if (text.startsWith(LINK_PREFIX)) throw bad("has a name of weft's own links", 'Give a link of the host.');
  if (!isLinkName(text))
    throw bad('is not an interface name', `Give a name such as eth1, at most ${MAX_LINK_NAME} characters.`);
  return text;
}

/** Room for sixteen nodes, or for as many as still get four addresses each. */
export function defaultBlock(pool: IpNetwork): number {
  if (pool.length <= 20) return 24;
  return Math.max(pool.length, Math.min(pool.length + 4, 30));
}

/** The fields that both drivers have. */
export type Layer2 = Omit<BridgeNetwork, 'driver' | 'masquerade'>;

/** @param usualPool the address pool with a parent, if no range was requested */
export function layer2Of(spec: NetworkSpec, usualPool: IpNetwork | undefined, hasGateway: boolean): Layer2 {
  const name = parseNetworkName(spec.name);
  const { subnet, subnet6 } = spec;
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
  if (parent === undefined) {
    if (spec.hostPrefix !== undefined)
      throw needsParent('host-prefix', 'without a parent every node has the whole subnet for itself');
    if (spec.gatewayNode !== undefined)
      throw needsParent('gateway-node', 'without a parent every node has the gateway itself');
  } else if (spec.internal === true) {
    throw invalidArgument(
      'internal: a network with a parent is joined to what is outside',
      'Leave out --internal, or --parent.',
    );
  }
  const pool = spec.range ?? (parent === undefined ? undefined : usualPool);
  if (spec.range !== undefined) checkRange(spec.range, subnet);
  const gateway = gatewayOfSpec(spec, hasGateway && parent === undefined);
  const shared = parent !== undefined && pool !== undefined;
  const hostPrefix = shared ? blockOf(pool, spec.hostPrefix) : subnet.length;
  if (!shared && spec.hostPrefix !== undefined)
    throw invalidArgument('host-prefix: there is no range that it could divide', 'Give --range, too.');
  const blocks = shared ? pool : subnet;
  return {
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
    ...securityOf(spec),
    ...(parent !== undefined && { parent }),
    ...(pool !== undefined && { pool }),
    ...(gateway !== undefined && { gateway }),
  };
}

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

/** @param usual whether it has a gateway if none was requested */
function gatewayOfSpec({ subnet, gateway, gatewayNode }: NetworkSpec, usual: boolean): IpAddress | undefined {
  if (gateway === undefined) {
    if (gatewayNode !== undefined)
      throw invalidArgument('gateway-node: there is no gateway that it could have', 'Give --gateway, too.');
    return usual ? subnet.at(1) : undefined;
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
