// What rtnetlink tells, as kernel objects: of a dump and of a notification alike, so that both mean the same.
import { BRIDGE_LINK_LOCAL, lanBridgeName } from '../../core/link-names.js';
import {
  isLanBridge,
  LINK_PREFIX,
  TRANSIT_PREFIX,
  WEFT_MARK,
  type ActualObject,
  type BridgeVlanObject,
  type LinkObject,
  type SysctlObject,
} from '../../core/objects/index.js';
import type { BridgeVlanEntry } from './encode-bridge.js';
import { AF_BRIDGE } from './libc.js';
import { attrSet, decodeAttrs, readIp, readMac, readText, type Attrs } from './netlink-message.js';
import type { NamespaceRole } from './kernel.js';

/** A link as the kernel has it. */
export interface KernelLink {
  index: number;
  name: string;
  up: boolean;
  /** Frames can leave by it: the cable is in, and the other end is up. */
  running: boolean;
  loopback: boolean;
  /** Its addresses are MAC addresses, and it is no loopback. */
  ethernet: boolean;
  mtu: number;
  mac: string;
  masterIndex: number;
  /** What a link of a VLAN, a macvlan and the like lie on. */
  baseIndex: number;
  /** Of a bridge's port: whether frames go back by it. */
  hairpin: boolean;
  kind: string;
  /** Its group is weft's mark; on the node a link is weft's only with a name or an alias of weft's, too. */
  marked: boolean;
  owned: boolean;
  object: LinkObject | undefined;
}

const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  LINKINFO: 18,
  IFALIAS: 20,
  GROUP: 27,
} as const;
const NAME = attrSet([IFLA.IFNAME]);
const DECODED = attrSet(Object.values(IFLA));
const INFO_SLAVE_DATA = 5;
const BRPORT_MODE = 4;
const IFF_UP = 1;
const IFF_RUNNING = 0x40;
const IFF_LOOPBACK = 8;
const ARPHRD_ETHER = 1;
const BRIDGE_VLAN_FILTERING = 7;
const VLAN_ID = 1;

/** What is read first of a list of links, each of which may name others. */
export const decodeLinkName = (body: Buffer): { index: number; name: string } => ({
  index: body.readInt32LE(4),
  name: readText(decodeAttrs(body, 16, NAME).get(IFLA.IFNAME) ?? Buffer.alloc(0)),
});

/** @param nameOf the name of a bridge by its index */
export function decodeLink(body: Buffer, role: NamespaceRole, nameOf: (index: number) => string): KernelLink {
  const attrs = decodeAttrs(body, 16, DECODED);
  const flags = body.readUInt32LE(8);
  const text = (type: number): string => readText(attrs.get(type) ?? Buffer.alloc(0));
  const number = (type: number): number => attrs.get(type)?.readUInt32LE() ?? 0;
  const info = decodeAttrs(attrs.get(IFLA.LINKINFO) ?? Buffer.alloc(0));
  const name = text(IFLA.IFNAME);
  const alias = text(IFLA.IFALIAS);
  const marked = number(IFLA.GROUP) === WEFT_MARK;
  const link = {
    index: body.readInt32LE(4),
    name,
    up: (flags & IFF_UP) !== 0,
    running: (flags & IFF_RUNNING) !== 0,
    loopback: (flags & IFF_LOOPBACK) !== 0,
    ethernet: body.readUInt16LE(2) === ARPHRD_ETHER,
    mtu: number(IFLA.MTU),
    mac: readMac(attrs.get(IFLA.ADDRESS) ?? Buffer.alloc(0)),
    masterIndex: number(IFLA.MASTER),
    baseIndex: number(IFLA.LINK),
    hairpin: decodeAttrs(info.get(INFO_SLAVE_DATA) ?? Buffer.alloc(0)).get(BRPORT_MODE)?.[0] === 1,
    kind: readText(info.get(1) ?? Buffer.alloc(0)),
    marked,
    // A container's end has the name that its user wants; on the node names of weft begin alike, and a link that has been
    // given another (a wire's) carries both marks.
    owned:
      role === 'container'
        ? marked
        : name.startsWith(LINK_PREFIX)
          ? marked || alias.startsWith('weft ')
          : marked && alias.startsWith('weft '),
  };
  const object = linkObject(link, alias, role, decodeAttrs(info.get(2) ?? Buffer.alloc(0)), nameOf);
  return { ...link, object };
}

function linkObject(
  { name, mtu, mac, kind, loopback, masterIndex, baseIndex, hairpin }: Omit<KernelLink, 'object'>,
  alias: string,
  role: NamespaceRole,
  data: Attrs,
  nameOf: (index: number) => string,
): LinkObject | undefined {
  if (loopback && name === 'lo') return { kind: 'link', type: 'loopback', name };
  if (kind === 'veth') {
    if (role === 'container') return { kind: 'link', type: 'peer', name, mac, mtu };
    // The other end stands for both.
    if (name.startsWith(TRANSIT_PREFIX)) return undefined;
    const master = masterIndex === 0 ? '' : nameOf(masterIndex);
    const mode = hairpin ? { hairpin } : {};
    return { kind: 'link', type: 'veth', name, alias, mtu, master, ...mode, peer: { name: '', mac: '' } };
  }
  if (role === 'container') return undefined;
  if (kind === 'bridge') {
    const vlans = data.get(BRIDGE_VLAN_FILTERING)?.[0] === 1 ? { vlans: true } : {};
    return { kind: 'link', type: 'bridge', name, alias, mac, mtu, ...vlans };
  }
  if (kind === 'vlan') {
    const vlan = data.get(VLAN_ID)?.readUInt16LE() ?? 0;
    return { kind: 'link', type: 'vlan', name, alias, mtu, base: nameOf(baseIndex), vlan };
  }
  if (kind !== 'vxlan') return undefined;
  const local = data.get(4) ?? data.get(17);
  return {
    kind: 'link',
    type: 'vxlan',
    name,
    alias,
    mac,
    mtu,
    vni: data.get(1)?.readUInt32LE() ?? 0,
    local: local === undefined ? '' : readIp(local),
    port: data.get(15)?.readUInt16BE() ?? 0,
  };
}

/**
 * Whether a link that weft did not make is a port of this bridge by weft's doing: the bridge is called after it. Everything
 * else there (a virtual machine's, say) somebody else has plugged in.
 */
export const isPortOfWefts = (link: string, bridge: KernelLink | undefined): boolean =>
  bridge?.owned === true && bridge.name === lanBridgeName(link);

/** What a link that weft did not make is a port of. */
export function portObject(
  link: KernelLink,
  byIndex: (index: number) => KernelLink | undefined,
): ActualObject | undefined {
  if (link.owned || link.masterIndex === 0) return undefined;
  const master = byIndex(link.masterIndex);
  return {
    object: { kind: 'port', link: link.name, master: master?.name ?? '' },
    owned: isPortOfWefts(link.name, master),
  };
}

/** The VLANs of a bridge, and of a port that weft made it; the one that a container's port is in is part of its link. */
export function vlanObjects(
  link: KernelLink,
  entries: readonly BridgeVlanEntry[],
  byIndex: (index: number) => KernelLink | undefined,
): BridgeVlanObject[] {
  const bridge = link.kind === 'bridge' ? link : byIndex(link.masterIndex);
  if (bridge === undefined || !(link === bridge ? link.owned : isPortOfWefts(link.name, bridge))) return [];
  return entries.map(({ vlan, pvid, untagged }) => ({
    kind: 'vlan',
    link: link.name,
    bridge: bridge.name,
    vlan,
    ...(pvid || untagged ? { untagged: true } : {}),
  }));
}

/** The one VLAN that a port is in, untagged; 0 for anything else. */
export function accessVlan(entries: readonly BridgeVlanEntry[]): number {
  const [entry] = entries;
  return entries.length === 1 && entry?.pvid === true && entry.untagged ? entry.vlan : 0;
}

/** What decoding objects on links needs to know of them. */
export interface LinkLookup {
  byIndex(index: number): KernelLink | undefined;
  /** Whether this kernel marks addresses (IFA_PROTO, 5.18 and later). */
  marksAddresses: boolean;
  role: NamespaceRole;
}

const IFA = { ADDRESS: 1, LOCAL: 2, PROTO: 11 } as const;
const RT_SCOPE_LINK = 253;
const IFA_F_PERMANENT = 0x80;

export interface DecodedAddress {
  link: KernelLink;
  text: string;
  global: boolean;
  marked: boolean;
  hasProtocol: boolean;
  /** It has no end: not a router's advertisement, nor DHCPv6, made it. */
  permanent: boolean;
}

export function decodeAddress(body: Buffer, links: LinkLookup): DecodedAddress | undefined {
  const link = links.byIndex(body.readUInt32LE(4));
  const attrs = decodeAttrs(body, 8);
  const ip = attrs.get(IFA.LOCAL) ?? attrs.get(IFA.ADDRESS);
  if (link === undefined || ip === undefined) return undefined;
  const protocol = attrs.get(IFA.PROTO)?.[0];
  return {
    link,
    text: `${readIp(ip)}/${body.readUInt8(1)}`,
    global: body.readUInt8(3) < RT_SCOPE_LINK,
    marked: protocol === WEFT_MARK,
    hasProtocol: protocol !== undefined,
    permanent: (body.readUInt8(2) & IFA_F_PERMANENT) !== 0,
  };
}

const LINK_LOCAL = `${BRIDGE_LINK_LOCAL}/64`;

/** Addresses matter on links of weft's alone. */
export function addressObject(address: DecodedAddress, links: LinkLookup): ActualObject | undefined {
  // The kernel makes link-local ones by itself, but not weft's.
  const told = address.global || address.marked || (!links.marksAddresses && address.text === LINK_LOCAL);
  if (!address.link.owned || !told) return undefined;
  return {
    object: { kind: 'address', link: address.link.name, address: address.text },
    // On the bridge of a LAN they are the host's.
    owned: address.marked || (!links.marksAddresses && !isLanBridge(address.link.name)),
  };
}

const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PRIORITY: 6, PREFSRC: 7, TABLE: 15 } as const;
const RT_TABLE_MAIN = 254;
const RTN_UNICAST = 1;
/** Blackhole, unreachable, prohibit: packets go nowhere, and no other route of the same key can be made. */
const RTN_NOWHERE = [6, 7, 8];
const RTPROT_KERNEL = 2;
const RTPROT_RA = 9;
const RTM_F_CLONED = 0x200;
const RTNH_F_ONLINK = 4;
const AF_INET6 = 10;
/** What the kernel gives a route that asks for no metric (IP6_RT_PRIO_USER in include/uapi/linux/ipv6_route.h). */
export const USUAL_METRIC = { 4: 0, 6: 1024 } as const;

export interface DecodedRoute {
  actual: ActualObject;
  metric: number;
  isDefault: boolean;
  family: 4 | 6;
  /** It came with a router's advertisement. */
  advertised: boolean;
  link: KernelLink | undefined;
}

/** Routes of the main table that packets are sent by, or that somebody made to send them nowhere: those have no link. */
export function decodeRoute(body: Buffer, links: LinkLookup): DecodedRoute | undefined {
  const attrs = decodeAttrs(body, 12);
  const flags = body.readUInt32LE(8);
  const table = attrs.get(RTA.TABLE)?.readUInt32LE() ?? body.readUInt8(4);
  const type = body.readUInt8(7);
  const counts = type === RTN_UNICAST || (RTN_NOWHERE.includes(type) && body.readUInt8(5) !== RTPROT_KERNEL);
  if (table !== RT_TABLE_MAIN || !counts || (flags & RTM_F_CLONED) !== 0) return undefined;
  const family = body.readUInt8(0) === AF_INET6 ? 6 : 4;
  const dst = attrs.get(RTA.DST);
  const gateway = attrs.get(RTA.GATEWAY);
  const source = attrs.get(RTA.PREFSRC);
  const length = body.readUInt8(1);
  // IPv6 shows such a route on the loopback device.
  const link = type === RTN_UNICAST ? links.byIndex(attrs.get(RTA.OIF)?.readUInt32LE() ?? 0) : undefined;
  return {
    metric: attrs.get(RTA.PRIORITY)?.readUInt32LE() ?? 0,
    isDefault: length === 0,
    family,
    advertised: body.readUInt8(5) === RTPROT_RA,
    link,
    actual: {
      owned: body.readUInt8(5) === WEFT_MARK,
      object: {
        kind: 'route',
        to: `${dst === undefined ? (family === 4 ? '0.0.0.0' : '::') : readIp(dst)}/${length}`,
        link: link?.name ?? '',
        ...(gateway === undefined ? {} : { via: readIp(gateway) }),
        ...((flags & RTNH_F_ONLINK) === 0 ? {} : { onlink: true }),
        ...(source === undefined ? {} : { src: readIp(source) }),
      },
    },
  };
}

/** Whether a route is weft's, or stands where one of weft's would. In a container every default route is worth knowing. */
export function routeMatters(
  { actual, metric, isDefault, family }: DecodedRoute,
  role: NamespaceRole,
): boolean {
  return actual.owned || metric === USUAL_METRIC[family] || (isDefault && role === 'container');
}

const NDA = { DST: 1, LLADDR: 2 } as const;
const NUD_PERMANENT = 0x80;
const NTF_SELF = 0x02;
const NTF_PROXY = 0x08;

/** Permanent entries on links of weft's: all that weft makes, and none that the kernel learns. */
export function decodeNeighbour(
  body: Buffer,
  links: LinkLookup,
): { actual: ActualObject; permanent: boolean } | undefined {
  const link = links.byIndex(body.readInt32LE(4));
  if (link?.owned !== true || link.object === undefined || links.role === 'container') return undefined;
  // Who spoke to the host through its NIC is remembered there.
  if (isLanBridge(link.name)) return undefined;
  const attrs = decodeAttrs(body, 12);
  const dst = attrs.get(NDA.DST);
  const mac = attrs.get(NDA.LLADDR);
  const flags = body.readUInt8(10);
  const permanent = (body.readUInt16LE(8) & NUD_PERMANENT) !== 0;
  const known = { owned: true } as const;
  if (body.readUInt8(0) === AF_BRIDGE) {
    // The addresses of a bridge's own ports are in the same table, without a destination.
    if ((flags & NTF_SELF) === 0 || link.object.type !== 'vxlan' || dst === undefined || mac === undefined)
      return undefined;
    return {
      permanent,
      actual: { ...known, object: { kind: 'fdb', link: link.name, mac: readMac(mac), dst: readIp(dst) } },
    };
  }
  if (dst === undefined) return undefined;
  const ip = readIp(dst);
  if ((flags & NTF_PROXY) !== 0)
    return { permanent: true, actual: { ...known, object: { kind: 'proxy', link: link.name, ip } } };
  return {
    permanent,
    actual: {
      ...known,
      object: { kind: 'neighbour', link: link.name, ip, mac: mac === undefined ? '' : readMac(mac) },
    },
  };
}

const NETCONFA = { IFINDEX: 1, FORWARDING: 2, PROXY_NEIGH: 5 } as const;
const NETCONFA_IFINDEX_ALL = -1;

/** The settings of a link, or of all of them, that the kernel tells of (include/uapi/linux/netconf.h). */
export function decodeNetconf(body: Buffer, links: LinkLookup): SysctlObject[] {
  const attrs = decodeAttrs(body, 4);
  const index = attrs.get(NETCONFA.IFINDEX)?.readInt32LE();
  const family = body.readUInt8(0) === AF_INET6 ? 6 : 4;
  const name =
    index === undefined ? undefined : index === NETCONFA_IFINDEX_ALL ? 'all' : links.byIndex(index)?.name;
  if (name === undefined) return [];
  const conf = `net/ipv${family}/conf/${name}`;
  const setting = (path: string, attr: number): SysctlObject[] => {
    const value = attrs.get(attr)?.readInt32LE();
    return value === undefined ? [] : [{ kind: 'sysctl', path, value: `${value}` }];
  };
  const all = name === 'all' && family === 4 ? 'net/ipv4/ip_forward' : `${conf}/forwarding`;
  return [
    ...setting(all, NETCONFA.FORWARDING),
    ...(family === 6 ? setting(`${conf}/proxy_ndp`, NETCONFA.PROXY_NEIGH) : []),
  ];
}
