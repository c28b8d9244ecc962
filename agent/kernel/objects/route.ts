// Routes as rtnetlink has them (include/uapi/linux/rtnetlink.h): those of the main table, and of any that a host goes by.
import { addressBits, type Family, parseInterface } from '../../../core/address.js';
import { isLanBridge, WEFT_MARK, type RouteObject } from '../../../core/objects/index.js';
import type { NamespaceRole } from '../kernel.js';
import { AF_INET, AF_INET6 } from '../libc.js';
import {
  decodeAttrs,
  fixed,
  ipAttr,
  nested,
  NLM_F,
  readIp,
  RTM,
  u32Attr,
  type Request,
} from '../netlink-message.js';
import type { ItemCodec } from './codec.js';
import type { AnyRoute, DecodedRoute, LinkLookup } from './readings.js';

const RTA = {
  DST: 1,
  SRC: 2,
  IIF: 3,
  OIF: 4,
  GATEWAY: 5,
  PRIORITY: 6,
  PREFSRC: 7,
  METRICS: 8,
  TABLE: 15,
} as const;
const RTAX_MTU = 2;
/** RT_TABLE_MAIN */
export const MAIN_TABLE = 254;
const RT_SCOPE_LINK = 253;
/** In a deletion: matches any scope. */
const RT_SCOPE_NOWHERE = 255;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RTN_UNREACHABLE = 7;
/** Blackhole, unreachable, prohibit: they drop packets, and exclude another route of the same key. */
const RTN_NOWHERE = [6, RTN_UNREACHABLE, 8];
const RTPROT_KERNEL = 2;
const RTPROT_RA = 9;
const RTM_F_CLONED = 0x200;
const RTNH_F_ONLINK = 4;
/** The metric that the kernel assigns where a request has none (IP6_RT_PRIO_USER in include/uapi/linux/ipv6_route.h). */
const USUAL_METRIC = { 4: 0, 6: 1024 } as const;

export const dumpRoutes: Request = { type: RTM.GETROUTE, flags: 0, body: Buffer.alloc(12) };

/** The route that a packet to an address would take. */
export const lookUpRoute = (ip: string, family: Family): Request => ({
  type: RTM.GETROUTE,
  flags: 0,
  body: Buffer.concat([
    fixed([1, family === 6 ? AF_INET6 : AF_INET], [1, addressBits(family)], [1, 0], [1, 0]),
    fixed([4, 0], [4, 0]),
    ipAttr(RTA.DST, ip),
  ]),
});

/** The route of a packet that a link receives from another address. @param iif index of the link */
export const lookUpForward = (ip: string, from: string, iif: number, family: Family): Request => ({
  type: RTM.GETROUTE,
  flags: 0,
  body: Buffer.concat([
    fixed([1, family === 6 ? AF_INET6 : AF_INET], [1, addressBits(family)], [1, addressBits(family)], [1, 0]),
    fixed([4, 0], [4, 0]),
    ipAttr(RTA.DST, ip),
    ipAttr(RTA.SRC, from),
    u32Attr(RTA.IIF, iif),
  ]),
});

/** The answer to either. `nowhere`: a route that drops packets (IPv6 answers with it, IPv4 with an error). */
export function decodeAnswer(body: Buffer): {
  index: number;
  via: string | undefined;
  source: string | undefined;
  isLocal: boolean;
  nowhere: boolean;
} {
  const attrs = decodeAttrs(body, 12);
  const ip = (type: number): string | undefined => {
    const bytes = attrs.get(type);
    return bytes && readIp(bytes);
  };
  const type = body.readUInt8(7);
  return {
    index: attrs.get(RTA.OIF)?.readUInt32LE() ?? 0,
    ...{ via: ip(RTA.GATEWAY), source: ip(RTA.PREFSRC) },
    ...{ isLocal: type === RTN_LOCAL, nowhere: RTN_NOWHERE.includes(type) },
  };
}

/** The source address and the link of the answer to `lookUpRoute`. */
export function decodeLookUp(body: Buffer): { ip: string; index: number } | undefined {
  const attrs = decodeAttrs(body, 12);
  const [source, link] = [attrs.get(RTA.PREFSRC), attrs.get(RTA.OIF)];
  return source === undefined || link === undefined
    ? undefined
    : { ip: readIp(source), index: link.readUInt32LE() };
}

/** The link of the answer to `lookUpRoute`, and the router on it; undefined where nothing leads there. */
export function decodeNextHop(body: Buffer): { via?: string; index: number } | undefined {
  const attrs = decodeAttrs(body, 12);
  const [gateway, link] = [attrs.get(RTA.GATEWAY), attrs.get(RTA.OIF)];
  if (link === undefined) return undefined;
  return { index: link.readUInt32LE(), ...(gateway === undefined ? {} : { via: readIp(gateway) }) };
}

const isLinkLocal = (prefix: string): boolean => prefix.startsWith('fe80:');

/** @param index of its link */
export function routeIn(
  table: number,
  object: RouteObject,
  index: number,
  how: 'create' | 'replace' | 'delete',
): Request {
  const { address, length } = parseInterface(object.to);
  const to = address.toString();
  // IPv6 has no route scopes.
  const isOnLink = object.via === undefined && object.unreachable !== true;
  const scope = isOnLink && address.family === 4 ? RT_SCOPE_LINK : 0;
  const body = Buffer.concat([
    fixed([1, address.family === 6 ? AF_INET6 : AF_INET], [1, length], [1, 0], [1, 0]),
    fixed(
      [1, table],
      [1, WEFT_MARK],
      [1, how === 'delete' ? RT_SCOPE_NOWHERE : scope],
      [1, object.unreachable === true ? RTN_UNREACHABLE : RTN_UNICAST],
    ),
    fixed([4, object.onlink === true ? RTNH_F_ONLINK : 0]),
    ...(length === 0 ? [] : [ipAttr(RTA.DST, to)]),
    ...(object.via === undefined ? [] : [ipAttr(RTA.GATEWAY, object.via)]),
    ...(object.src === undefined ? [] : [ipAttr(RTA.PREFSRC, object.src)]),
    ...(object.mtu === undefined ? [] : [nested(RTA.METRICS, u32Attr(RTAX_MTU, object.mtu))]),
    ...(object.unreachable === true ? [] : [u32Attr(RTA.OIF, index)]),
  ]);
  if (how === 'delete') return { type: RTM.DELROUTE, flags: 0, body };
  // Each link has its own route to fe80::/64; those of other links are no conflict.
  const alone = isLinkLocal(object.to) ? 0 : NLM_F.EXCL;
  return { type: RTM.NEWROUTE, flags: NLM_F.CREATE | (how === 'replace' ? NLM_F.REPLACE : alone), body };
}

export const route: ItemCodec<RouteObject> = {
  request: (object, index, how) => routeIn(MAIN_TABLE, object, index, how),
  observe: ({ routes, role }) => routes.flatMap((route) => (routeMatters(route, role) ? [route.actual] : [])),
};

/** Unicast routes of the main table, and those that drop packets, which have no link. */
export function decodeRoute(body: Buffer, links: LinkLookup): DecodedRoute | undefined {
  const route = decodeAnyRoute(body, links);
  return route !== undefined && isOfMain(route) ? route : undefined;
}

export const isOfMain = ({ table, isLocal }: AnyRoute): boolean => table === MAIN_TABLE && !isLocal;

/** Of every table; also those to the host's own addresses. */
export function decodeAnyRoute(body: Buffer, links: LinkLookup): AnyRoute | undefined {
  const attrs = decodeAttrs(body, 12);
  const flags = body.readUInt32LE(8);
  const type = body.readUInt8(7);
  const protocol = body.readUInt8(5);
  const hasLink = type === RTN_UNICAST || type === RTN_LOCAL;
  const counts = hasLink || (RTN_NOWHERE.includes(type) && protocol !== RTPROT_KERNEL);
  if (!counts || (flags & RTM_F_CLONED) !== 0) return undefined;
  const family = body.readUInt8(0) === AF_INET6 ? 6 : 4;
  const dst = attrs.get(RTA.DST);
  const gateway = attrs.get(RTA.GATEWAY);
  const source = attrs.get(RTA.PREFSRC);
  const metrics = attrs.get(RTA.METRICS);
  const mtu = metrics === undefined ? undefined : decodeAttrs(metrics).get(RTAX_MTU)?.readUInt32LE();
  const length = body.readUInt8(1);
  // IPv6 shows one that drops packets on the loopback device.
  const link = hasLink ? links.byIndex(attrs.get(RTA.OIF)?.readUInt32LE() ?? 0) : undefined;
  return {
    table: attrs.get(RTA.TABLE)?.readUInt32LE() ?? body.readUInt8(4),
    isLocal: type === RTN_LOCAL,
    metric: attrs.get(RTA.PRIORITY)?.readUInt32LE() ?? 0,
    isDefault: length === 0,
    family,
    advertised: protocol === RTPROT_RA,
    connected: [RTPROT_KERNEL, RTPROT_RA].includes(protocol),
    link,
    actual: {
      owned: protocol === WEFT_MARK,
      object: {
        kind: 'route',
        to: `${dst === undefined ? (family === 4 ? '0.0.0.0' : '::') : readIp(dst)}/${length}`,
        link: link?.name ?? '',
        ...(type === RTN_UNREACHABLE ? { unreachable: true } : {}),
        ...(gateway === undefined ? {} : { via: readIp(gateway) }),
        ...((flags & RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
        ...(source === undefined ? {} : { src: readIp(source) }),
        ...(mtu === undefined ? {} : { mtu }),
      },
    },
  };
}

/** Whether weft made a route, or the link that it leads to; a LAN stays the host's when weft bridges it. */
export const isOwnRoute = ({ actual, link }: DecodedRoute): boolean =>
  actual.owned || (link?.owned === true && !isLanBridge(link.name));

/** Whether a route is weft's, or has the key of one of weft's. In a container every default route counts. */
export function routeMatters(
  { actual, metric, isDefault, family }: DecodedRoute,
  role: NamespaceRole,
): boolean {
  return actual.owned || metric === USUAL_METRIC[family] || (isDefault && role === 'container');
}
