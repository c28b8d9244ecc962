// A network's config: flannel's JSON to weft's Network and back. What flannel would take, weft takes, with flannel's
// defaults; what weft would serve otherwise than a flanneld does is refused with the reason.
//
// DirectRouting is accepted: a flanneld that has it sends plain packets to neighbours, which arrive all the same.
// Learning is accepted: it adds FDB entries, and weft's own are permanent. GBP changes the frames on the wire: refused.
import { z } from 'zod';

import type { IpAddress, IpNetwork } from '../core/address.js';
import { backendTypeOf, bridgedNetwork, formatVlans, parseVlans, VLAN_IDS } from '../core/bridged.js';
import { messageOf, WeftError } from '../core/errors.js';
import {
  checkUsable,
  DEFAULT_VXLAN_PORT,
  MAX_VNI,
  MIN_MTU,
  parseHostPrefix,
  parseRange,
  VXLAN_OVERHEAD,
  type BridgedNetwork,
  type Network,
  type OverlayNetwork,
  type SubnetRange,
} from '../core/network.js';
import {
  check,
  cidr4,
  cidr6,
  flag,
  goObject,
  integer,
  ip4,
  ip6,
  parseJsonObject,
  text,
  UnreadableError,
} from '../core/parse.js';

/** VNI of a flannel network whose config names none (pkg/backend/vxlan, defaultVNI). */
const FLANNEL_VNI = 1;

/**
 * flannel's Backend.MTU is the underlay's, from which it takes the overhead itself, in both families the one of IPv4
 * (pkg/backend/vxlan, encapOverhead). Network.mtu is what the containers get.
 */
const FLANNEL_OVERHEAD = VXLAN_OVERHEAD[4];

const length = integer(0, 128);

const CONFIG = goObject({
  EnableIPv4: flag.default(true),
  EnableIPv6: flag.default(false),
  Network: cidr4.optional(),
  SubnetLen: length.default(0),
  SubnetMin: ip4.optional(),
  SubnetMax: ip4.optional(),
  IPv6Network: cidr6.optional(),
  IPv6SubnetLen: length.default(0),
  IPv6SubnetMin: ip6.optional(),
  IPv6SubnetMax: ip6.optional(),
  Backend: goObject({
    Type: text.default(''),
    VNI: integer(1, MAX_VNI).default(FLANNEL_VNI),
    Port: integer(0, 65535).default(0),
    MTU: integer(0, 65535 + FLANNEL_OVERHEAD).default(0),
    GBP: flag.default(false),
  }).optional(),
  Weft: goObject({
    Internal: flag.default(false),
    Masquerade: flag.default(true),
    Docker: flag.default(false),
    Routes: z.array(text).default([]),
  }).optional(),
});

/** Of the drivers bridge and vlan: no flanneld has a backend of such a name, and so none serves the network wrongly. */
const BRIDGED_BACKENDS = { 'weft-bridge': 'bridge', 'weft-vlan': 'vlan' } as const;

const BRIDGED = goObject({
  Network: cidr4,
  SubnetLen: length.default(0),
  IPv6Network: cidr6.optional(),
  Backend: goObject({ Type: text, MTU: integer(0, 65_535).default(0) }),
  Weft: goObject({
    Internal: flag.default(false),
    Masquerade: flag.default(true),
    VLAN: integer(VLAN_IDS.first, VLAN_IDS.last).optional(),
    AllowVLAN: text.optional(),
    Parent: text.optional(),
    Range: cidr4.optional(),
    Gateway: ip4.optional(),
    GatewayNode: text.optional(),
    Force: flag.default(false),
    Routes: z.array(text).default([]),
  }).optional(),
});

/** What a config has that a Network has not, so that writing it again loses nothing. */
const sources = new WeakMap<Network, string>();

/** @throws UnreadableError with the field, the value and what is allowed */
export function decodeConfig(name: string, value: string): Network {
  const json = parseJsonObject(value);
  // First, for another backend's fields need not make sense as VXLAN's.
  const type = backendIn(json);
  if (type in BRIDGED_BACKENDS)
    return decodeBridged(name, value, json, BRIDGED_BACKENDS[type as keyof typeof BRIDGED_BACKENDS]);
  const config = check(CONFIG, json);
  if (config.Backend?.GBP === true) {
    throw new UnreadableError('Backend.GBP: true; weft does not speak group based policies, leave it out');
  }
  if (!config.EnableIPv4) {
    throw new UnreadableError(
      'EnableIPv4: false; networks of IPv6 alone are not served, leave it out and give a Network',
    );
  }
  if (config.Network === undefined) {
    throw new UnreadableError('Network is missing; expected an IPv4 prefix such as 10.100.0.0/16');
  }
  try {
    const four = familyOf(
      config.Network,
      'Network',
      'Subnet',
      config.SubnetLen,
      config.SubnetMin,
      config.SubnetMax,
    );
    if (config.EnableIPv6 && config.IPv6Network === undefined) {
      throw new UnreadableError('IPv6Network is missing; EnableIPv6 needs a prefix such as fd42:100::/48');
    }
    const six =
      config.EnableIPv6 && config.IPv6Network !== undefined
        ? familyOf(
            config.IPv6Network,
            'IPv6Network',
            'IPv6Subnet',
            config.IPv6SubnetLen,
            config.IPv6SubnetMin,
            config.IPv6SubnetMax,
          )
        : undefined;
    const mtu = mtuOf(config.Backend?.MTU ?? 0, six !== undefined);
    const routes = config.Weft?.Routes ?? [];
    const network: OverlayNetwork = {
      name,
      driver: 'overlay',
      backend: 'vxlan',
      subnet: four.subnet,
      hostPrefix: four.hostPrefix,
      range: four.range,
      ...(six && { subnet6: six.subnet, hostPrefix6: six.hostPrefix, range6: six.range }),
      vni: config.Backend?.VNI ?? FLANNEL_VNI,
      // 0 is the kernel's default, which is flannel's too.
      port: config.Backend?.Port || DEFAULT_VXLAN_PORT,
      ...(mtu !== undefined && { mtu }),
      internal: config.Weft?.Internal ?? false,
      masquerade: config.Weft?.Masquerade ?? true,
      ...(config.Weft?.Docker === true && { docker: true }),
      ...(routes.length > 0 && { routes }),
    };
    sources.set(network, value);
    return network;
  } catch (error) {
    throw asUnreadable(error);
  }
}

function asUnreadable(error: unknown): unknown {
  if (!(error instanceof WeftError)) return error;
  return new UnreadableError(error.next === undefined ? error.message : `${error.message}; ${error.next}`, {
    cause: error,
  });
}

function decodeBridged(
  name: string,
  value: string,
  json: Record<string, unknown>,
  driver: 'bridge' | 'vlan',
): Network {
  const { Network: subnet, SubnetLen, IPv6Network: subnet6, Backend, Weft } = check(BRIDGED, json);
  try {
    const routes = Weft?.Routes ?? [];
    const made = bridgedNetwork({
      name,
      driver,
      subnet,
      internal: Weft?.Internal ?? false,
      masquerade: Weft?.Masquerade ?? true,
      force: Weft?.Force ?? false,
      ...(SubnetLen !== 0 && { hostPrefix: SubnetLen }),
      ...(subnet6 && { subnet6 }),
      ...(Backend.MTU !== 0 && { mtu: Backend.MTU }),
      ...(Weft?.VLAN !== undefined && { vlan: Weft.VLAN }),
      ...(Weft?.AllowVLAN !== undefined && { allowVlan: parseVlans(Weft.AllowVLAN, 'Weft.AllowVLAN') }),
      ...(Weft?.Parent !== undefined && { parent: Weft.Parent }),
      ...(Weft?.Range && { range: Weft.Range }),
      ...(Weft?.Gateway && { gateway: Weft.Gateway }),
      ...(Weft?.GatewayNode !== undefined && { gatewayNode: Weft.GatewayNode }),
    });
    const network: Network = { ...made, ...(routes.length > 0 && { routes }) };
    sources.set(network, value);
    return network;
  } catch (error) {
    throw asUnreadable(error);
  }
}

function backendIn(json: Record<string, unknown>): string {
  const backend = check(goObject({ Backend: goObject({ Type: text.default('') }).optional() }), json).Backend;
  if (backend === undefined) {
    throw new UnreadableError(
      'Backend is missing, which flannel takes as "udp"; weft serves {"Backend":{"Type":"vxlan"}}',
    );
  }
  const type = backend.Type.toLowerCase();
  if (type !== 'vxlan' && !(type in BRIDGED_BACKENDS)) {
    throw new UnreadableError(`Backend.Type: "${backend.Type}" is not served; weft serves "vxlan"`);
  }
  return type;
}

function familyOf(
  subnet: IpNetwork,
  field: string,
  prefix: string,
  askedLength: number,
  min: IpAddress | undefined,
  max: IpAddress | undefined,
): { subnet: IpNetwork; hostPrefix: number; range: SubnetRange } {
  checkUsable(subnet, field);
  const hostPrefix = parseHostPrefix(subnet, askedLength || flannelHostPrefix(subnet), `${prefix}Len`);
  const fields = { min: `${prefix}Min`, max: `${prefix}Max` };
  return { subnet, hostPrefix, range: parseRange(subnet, hostPrefix, given(min), given(max), fields) };
}

/** What a flanneld takes where the config is silent; for a long IPv6 prefix that is not weft's own default. */
function flannelHostPrefix(subnet: IpNetwork): number | undefined {
  if (subnet.family === 4) return undefined;
  return subnet.length <= 62 ? 64 : subnet.length + 2;
}

/** Go's zero value counts as absent. */
const given = (address: IpAddress | undefined): IpAddress | undefined =>
  address?.value === 0n ? undefined : address;

function mtuOf(underlay: number, dual: boolean): number | undefined {
  if (underlay === 0) return undefined;
  const mtu = underlay - FLANNEL_OVERHEAD;
  const least = MIN_MTU[dual ? 6 : 4];
  if (mtu < least) {
    throw new UnreadableError(
      `Backend.MTU: ${underlay}; expected at least ${least + FLANNEL_OVERHEAD}, the tunnel takes ${FLANNEL_OVERHEAD}`,
    );
  }
  return mtu;
}

/** The config as flanneld reads it. A network that was read is written as it was, with all that weft does not know. */
export function encodeConfig(network: Network): string {
  const source = sources.get(network);
  if (source !== undefined) return source;
  return network.driver === 'overlay' ? encodeOverlay(network) : encodeBridged(network);
}

function encodeBridged(network: BridgedNetwork): string {
  const shared = network.parent !== undefined && network.pool !== undefined;
  const { allowVlan = [], vlan, gatewayNode } = network.driver === 'vlan' ? network : {};
  return JSON.stringify({
    Network: network.subnet.toString(),
    ...(shared && { SubnetLen: network.hostPrefix }),
    ...(network.subnet6 && { EnableIPv6: true, IPv6Network: network.subnet6.toString() }),
    Backend: { Type: backendTypeOf(network), ...(network.mtu !== undefined && { MTU: network.mtu }) },
    Weft: {
      Internal: network.internal,
      Masquerade: network.masquerade,
      ...(vlan !== undefined && { VLAN: vlan }),
      ...(allowVlan.length > 0 && { AllowVLAN: formatVlans(allowVlan) }),
      ...(network.parent !== undefined && { Parent: network.parent }),
      ...(network.pool && { Range: network.pool.toString() }),
      ...(network.gateway && { Gateway: network.gateway.toString() }),
      ...(gatewayNode !== undefined && { GatewayNode: gatewayNode }),
      ...(network.force && { Force: true }),
      ...(network.routes !== undefined && { Routes: network.routes }),
    },
  });
}

function encodeOverlay(network: OverlayNetwork): string {
  const usual = parseRange(network.subnet, network.hostPrefix, undefined, undefined);
  return JSON.stringify({
    Network: network.subnet.toString(),
    SubnetLen: network.hostPrefix,
    ...rangeFields('Subnet', network.range, usual),
    ...(network.subnet6 !== undefined &&
      network.hostPrefix6 !== undefined && {
        EnableIPv6: true,
        IPv6Network: network.subnet6.toString(),
        IPv6SubnetLen: network.hostPrefix6,
        ...(network.range6 &&
          rangeFields(
            'IPv6Subnet',
            network.range6,
            parseRange(network.subnet6, network.hostPrefix6, undefined, undefined),
          )),
      }),
    Backend: {
      Type: network.backend,
      VNI: network.vni,
      Port: network.port,
      ...(network.mtu !== undefined && { MTU: network.mtu + FLANNEL_OVERHEAD }),
    },
    Weft: {
      Internal: network.internal,
      Masquerade: network.masquerade,
      ...(network.docker === true && { Docker: true }),
      ...(network.routes !== undefined && { Routes: network.routes }),
    },
  });
}

const rangeFields = (prefix: string, range: SubnetRange, usual: SubnetRange): Record<string, string> => ({
  ...(!range.first.equals(usual.first) && { [`${prefix}Min`]: range.first.base.toString() }),
  ...(!range.last.equals(usual.last) && { [`${prefix}Max`]: range.last.base.toString() }),
});

/** What can be changed of a network that is there. */
export interface ConfigChange {
  masquerade?: boolean;
  routes?: string[];
}

/**
 * A config with this changed and all else as it was, what weft does not know included.
 * @throws UnreadableError
 */
export function editConfig(name: string, value: string, change: ConfigChange): string {
  const json = parseJsonObject(value);
  // Go's decoder takes keys in any case.
  const fieldOf = (object: Record<string, unknown>, field: string): string =>
    Object.hasOwn(object, field)
      ? field
      : (Object.keys(object).findLast((key) => key.toLowerCase() === field.toLowerCase()) ?? field);
  const key = fieldOf(json, 'Weft');
  const was = json[key];
  const weft = typeof was === 'object' && was !== null ? { ...(was as Record<string, unknown>) } : {};
  if (change.masquerade !== undefined) weft[fieldOf(weft, 'Masquerade')] = change.masquerade;
  if (change.routes !== undefined) {
    if (change.routes.length > 0) weft[fieldOf(weft, 'Routes')] = change.routes;
    else delete weft[fieldOf(weft, 'Routes')];
  }
  const edited = JSON.stringify({ ...json, [key]: weft });
  decodeConfig(name, edited);
  return edited;
}

/** What a config that weft does not serve takes up all the same. */
export interface Occupied {
  prefixes: IpNetwork[];
  vni?: number;
}

/** As much as can be read of it; empty where that is nothing. */
export function occupiedBy(value: string): Occupied {
  try {
    const json = parseJsonObject(value);
    const field = <T>(read: () => T): T | undefined => {
      try {
        return read();
      } catch {
        return undefined;
      }
    };
    const four = field(() => check(goObject({ Network: cidr4.optional() }), json).Network);
    const six = field(() => check(goObject({ IPv6Network: cidr6.optional() }), json).IPv6Network);
    const backend = field(
      () => check(goObject({ Backend: goObject({ VNI: integer(1, MAX_VNI) }) }), json).Backend,
    );
    return {
      prefixes: [four, six].filter((prefix) => prefix !== undefined && prefix.length > 0) as IpNetwork[],
      ...(backend && { vni: backend.VNI }),
    };
  } catch (error) {
    if (error instanceof UnreadableError) return { prefixes: [] };
    throw new Error(`cannot look into a config: ${messageOf(error)}`, { cause: error });
  }
}
