// Network config codec: flannel's JSON to Network and back.
//
// weft accepts what flannel accepts, with flannel's defaults. A config that weft would serve differently from a flanneld is
// refused with the reason. core/backends reads and writes what a backend has beside its type and MTU; bridged-codec.ts has
// the networks without a backend.
import * as z from 'zod';

import type { IpAddress, IpNetwork } from '../core/address.js';
import { backendIn, backendOf, BACKEND_TYPES, DEFAULT_BACKEND, isBackend } from '../core/backends/index.js';
import type { BackendType } from '../core/backends/types.js';
import { isBridged } from '../core/drivers/index.js';
import { overlay } from '../core/drivers/overlay.js';
import { MANAGERS, type Manager } from '../core/manager.js';
import {
  checkUsable,
  MIN_MTU,
  parseHostPrefix,
  parseRange,
  prefixesOf,
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
  withoutMark,
  text,
  UnreadableError,
  ifReadable,
} from '../core/parse.js';
import {
  asUnreadable,
  BRIDGED_TYPES,
  decodeBridged,
  encodeBridged,
  securityFields,
  securityIn,
} from './bridged-codec.js';

const length = integer(0, 128);

/**
 * flannel's Backend.MTU is the underlay's, from which flannel subtracts the overhead, in both families the one of IPv4
 * (pkg/backend/vxlan, encapOverhead). Network.mtu is the MTU of the containers.
 */
const overheadOf = (type: BackendType): number => backendOf(type).overhead[4];
const MOST_OVERHEAD = Math.max(...BACKEND_TYPES.map(overheadOf));

/** The part of its config that each backend has. */
const BACKEND_CONFIG = new Map(
  BACKEND_TYPES.map((type) => [type, goObject({ Backend: backendOf(type).config.schema })] as const),
);

const MTU = goObject({
  // Room for the overhead of any backend above the largest MTU of a link.
  Backend: goObject({ MTU: integer(0, 65535 + MOST_OVERHEAD).default(0) }).optional(),
});

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
  Weft: goObject({
    Internal: flag.default(false),
    Masquerade: flag.default(true),
    Force: flag.default(false),
    Docker: flag.default(false),
    MadeBy: z.enum(MANAGERS).optional().catch(undefined),
    PortSecurity: flag.default(true),
    Isolated: flag.default(false),
    DirectAccess: flag.optional(),
    Routes: z.array(text).default([]),
    Beside: z.unknown().optional(),
  }).optional(),
});

/** Fields of a config that Network lacks, kept so that writing it again loses nothing. */
const sources = new WeakMap<Network, string>();

function keep(network: Network, source: string): Network {
  sources.set(network, source);
  return network;
}

/** @throws UnreadableError with the field, the value and what is allowed */
export function decodeConfig(name: string, text: string): Network {
  // Written back without the byte order mark: flanneld does not read it.
  const value = withoutMark(text);
  const json = parseJsonObject(value);
  // First, since another backend's fields need not make sense as VXLAN's.
  const type = backendTypeIn(json);
  if (!isBackend(type)) return keep(decodeBridged(name, json, BRIDGED_TYPES.get(type)), value);
  const config = check(CONFIG, json);
  if (!config.EnableIPv4 && !config.EnableIPv6)
    throw new UnreadableError('EnableIPv4: false; without EnableIPv6 the network has no addresses');
  if (config.EnableIPv4 && config.Network === undefined)
    throw new UnreadableError('Network is missing; expected an IPv4 prefix such as 10.100.0.0/16');
  if (config.EnableIPv6 && config.IPv6Network === undefined)
    throw new UnreadableError('IPv6Network is missing; EnableIPv6 needs a prefix such as fd42:100::/48');
  try {
    const four =
      config.EnableIPv4 && config.Network !== undefined
        ? familyOf(config.Network, 'Network', 'Subnet', config.SubnetLen, config.SubnetMin, config.SubnetMax)
        : undefined;
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
    const routes = config.Weft?.Routes ?? [];
    const withBackend = (object: unknown): OverlayNetwork => {
      const { backend, ...fields } = backendFields(object, six !== undefined);
      const made = {
        name,
        driver: overlay.name,
        backend,
        ...(four ?? six),
        ...(four && six && { subnet6: six.subnet, hostPrefix6: six.hostPrefix, range6: six.range }),
        ...fields,
        internal: config.Weft?.Internal ?? false,
        masquerade: config.Weft?.Masquerade ?? true,
        ...(config.Weft?.Force === true && { force: true as const }),
        ...madeBy(config.Weft),
        ...securityIn(config.Weft),
        ...(routes.length > 0 && { routes }),
      } as OverlayNetwork;
      const without = prefixesOf(made).find(
        ({ family }) => backendIn(made).carriers(made, family).length === 0,
      );
      if (without === undefined) return made;
      throw new UnreadableError(
        `${without.toString()}: the backend ${backend} carries no IPv${without.family}`,
      );
    };
    const network = withBackend(fieldIn(json, 'Backend'));
    const beside = config.Weft?.Beside;
    return keep(beside === undefined ? network : { ...network, beside: withBackend(beside) }, value);
  } catch (error) {
    throw asUnreadable(error);
  }
}

/** What a network has of a Backend object, beside what is common to all. */
function backendFields(object: unknown, dual: boolean): { backend: BackendType } {
  const json = { Backend: object };
  const type = backendTypeIn(json);
  if (!isBackend(type)) throw new UnreadableError(`Backend.Type: "${type}" is no backend of an overlay`);
  const { Backend: carried = {} } = check(BACKEND_CONFIG.get(type) ?? goObject({}), json);
  const mtu = mtuOf(check(MTU, json).Backend?.MTU ?? 0, overheadOf(type), dual);
  return { backend: type, ...carried, ...(mtu !== undefined && { mtu }) };
}

/** A field of a config, in any case, as Go's decoder finds it. */
const fieldIn = (json: Record<string, unknown>, field: string): unknown => json[nameIn(json, field)];

const nameIn = (object: Record<string, unknown>, field: string): string =>
  Object.hasOwn(object, field)
    ? field
    : (Object.keys(object).findLast((key) => key.toLowerCase() === field.toLowerCase()) ?? field);

function backendTypeIn(json: Record<string, unknown>): string {
  const backend = check(goObject({ Backend: goObject({ Type: text.default('') }).optional() }), json).Backend;
  if (backend === undefined) {
    throw new UnreadableError(
      `Backend is missing, which flannel takes as "udp"; weft serves {"Backend":{"Type":"${DEFAULT_BACKEND}"}}`,
    );
  }
  const type = backend.Type.toLowerCase();
  if (isBackend(type) || BRIDGED_TYPES.has(type)) return type;
  const served = BACKEND_TYPES.map((name) => `"${name}"`).join(', ');
  throw new UnreadableError(`Backend.Type: "${backend.Type}" is not served; weft serves ${served}`);
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

/** flanneld's value if the config has none; for a long IPv6 prefix that is not weft's own default. */
function flannelHostPrefix(subnet: IpNetwork): number | undefined {
  if (subnet.family === 4) return undefined;
  return subnet.length <= 62 ? 64 : subnet.length + 2;
}

/** Go's zero value counts as absent. */
const given = (address: IpAddress | undefined): IpAddress | undefined =>
  address?.value === 0n ? undefined : address;

function mtuOf(underlay: number, overhead: number, dual: boolean): number | undefined {
  if (underlay === 0) return undefined;
  const mtu = underlay - overhead;
  const least = MIN_MTU[dual ? 6 : 4];
  if (mtu < least) {
    throw new UnreadableError(
      `Backend.MTU: ${underlay}; expected at least ${least + overhead}, the tunnel takes ${overhead}`,
    );
  }
  return mtu;
}

/** The config in flanneld's form. A network that was read is written as it was, with all fields unknown to weft. */
export function encodeConfig(network: Network): string {
  const source = sources.get(network);
  if (source !== undefined) return source;
  return isBridged(network) ? encodeBridged(network) : encodeOverlay(network);
}

function encodeOverlay(network: OverlayNetwork): string {
  const { subnet, hostPrefix, range, subnet6, hostPrefix6, range6 } = network;
  return JSON.stringify({
    ...(subnet.family === 6 && { EnableIPv4: false }),
    ...prefixFields(subnet, hostPrefix, range),
    ...(subnet6 && hostPrefix6 !== undefined && prefixFields(subnet6, hostPrefix6, range6)),
    Backend: encodeBackend(network),
    Weft: {
      Internal: network.internal,
      Masquerade: network.masquerade,
      ...(network.force === true && { Force: true }),
      ...securityFields(network),
      // As in release 0.1, whose agents remove such a network, too.
      ...(network.madeBy === 'docker' ? { Docker: true } : { MadeBy: network.madeBy }),
      ...(network.routes !== undefined && { Routes: network.routes }),
      ...(network.beside !== undefined && { Beside: encodeBackend(network.beside) }),
    },
  });
}

/** flannel's Backend object. */
const encodeBackend = (network: OverlayNetwork): object => ({
  Type: network.backend,
  ...backendIn(network).config.encode(network),
  ...(network.mtu !== undefined && { MTU: network.mtu + overheadOf(network.backend) }),
});

/** Whether two networks travel alike. */
export const sameBackend = (a: OverlayNetwork, b: OverlayNetwork): boolean =>
  JSON.stringify(encodeBackend(a)) === JSON.stringify(encodeBackend(b));

function madeBy(weft: { Docker: boolean; MadeBy?: Manager | undefined } | undefined): { madeBy?: Manager } {
  const by = weft?.Docker === true ? 'docker' : weft?.MadeBy;
  return by === undefined ? {} : { madeBy: by };
}

/** What a config has of one family. */
function prefixFields(subnet: IpNetwork, hostPrefix: number, range: SubnetRange | undefined): object {
  const usual = parseRange(subnet, hostPrefix, undefined, undefined);
  const six = subnet.family === 6 ? 'IPv6' : '';
  return {
    ...(six && { EnableIPv6: true }),
    [`${six}Network`]: subnet.toString(),
    [`${six}SubnetLen`]: hostPrefix,
    ...(range && rangeFields(`${six}Subnet`, range, usual)),
  };
}

const rangeFields = (prefix: string, range: SubnetRange, usual: SubnetRange): Record<string, string> => ({
  ...(!range.first.equals(usual.first) && { [`${prefix}Min`]: range.first.base.toString() }),
  ...(!range.last.equals(usual.last) && { [`${prefix}Max`]: range.last.base.toString() }),
});

/** What can be changed of an existing network. */
export interface ConfigChange {
  masquerade?: boolean;
  portSecurity?: boolean;
  directAccess?: boolean;
  isolated?: boolean;
  routes?: string[];
  /** A step of a move: another backend beside; the two change places; the one beside goes. */
  move?: { beside: OverlayNetwork } | 'swap' | 'end';
}

/**
 * Returns a config with this change and all else as it was, fields unknown to weft included.
 * @throws UnreadableError
 */
export function editConfig(name: string, value: string, change: ConfigChange): string {
  const json = parseJsonObject(value);
  const key = nameIn(json, 'Weft');
  const was = json[key];
  const weft = typeof was === 'object' && was !== null ? { ...(was as Record<string, unknown>) } : {};
  if (change.masquerade !== undefined) weft[nameIn(weft, 'Masquerade')] = change.masquerade;
  if (change.portSecurity !== undefined) weft[nameIn(weft, 'PortSecurity')] = change.portSecurity;
  if (change.directAccess !== undefined) weft[nameIn(weft, 'DirectAccess')] = change.directAccess;
  if (change.isolated === true) weft[nameIn(weft, 'Isolated')] = true;
  else if (change.isolated === false) delete weft[nameIn(weft, 'Isolated')];
  if (change.routes !== undefined) {
    if (change.routes.length > 0) weft[nameIn(weft, 'Routes')] = change.routes;
    else delete weft[nameIn(weft, 'Routes')];
  }
  const beside = nameIn(weft, 'Beside');
  const backend = nameIn(json, 'Backend');
  // As they are: with the fields that weft does not know.
  if (change.move === 'swap') [json[backend], weft[beside]] = [weft[beside], json[backend]];
  else if (change.move === 'end') delete weft[beside];
  else if (change.move !== undefined) weft[beside] = encodeBackend(change.move.beside);
  const edited = JSON.stringify({ ...json, [key]: weft });
  decodeConfig(name, edited);
  return edited;
}

/** What a config that weft does not serve occupies all the same. */
export interface Occupied {
  prefixes: IpNetwork[];
  /** Its Backend object, unread. */
  backend?: unknown;
}

/** As much as can be read of the config; empty if that is nothing. */
export function occupiedBy(value: string): Occupied {
  const json = ifReadable(() => parseJsonObject(value));
  if (json === undefined) return { prefixes: [] };
  const four = ifReadable(() => check(goObject({ Network: cidr4.optional() }), json).Network);
  const six = ifReadable(() => check(goObject({ IPv6Network: cidr6.optional() }), json).IPv6Network);
  const backend = ifReadable(() => check(goObject({ Backend: z.unknown() }), json).Backend);
  return {
    prefixes: [four, six].filter((prefix) => prefix !== undefined && prefix.length > 0) as IpNetwork[],
    ...(backend !== undefined && { backend }),
  };
}
