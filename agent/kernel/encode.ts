// Steps as rtnetlink requests (include/uapi/linux/if_link.h, if_addr.h, rtnetlink.h, neighbour.h).
import { parseInterface } from '../../core/address.js';
import {
  WEFT_MARK,
  type AddressObject,
  type BridgeLink,
  type FdbObject,
  type LinkObject,
  type NeighbourObject,
  type ProxyObject,
  type RouteObject,
  type VethLink,
  type VlanLink,
  type VxlanLink,
  isLanBridge,
} from '../../core/objects/index.js';
import { AF_BRIDGE, AF_INET, AF_INET6 } from './libc.js';
import {
  be16Attr,
  attr,
  fixed,
  ipAttr,
  macAttr,
  nested,
  NLM_F,
  RTM,
  textAttr,
  u16Attr,
  u32Attr,
  u8Attr,
  type Request,
} from './netlink-message.js';

const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  LINKINFO: 18,
  IFALIAS: 20,
  AF_SPEC: 26,
  GROUP: 27,
  NET_NS_FD: 28,
  EXT_MASK: 29,
} as const;
const INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;
const BRPORT_MODE = 4;
const VETH_INFO_PEER = 1;
const VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PORT: 15, LOCAL6: 17 } as const;
const BRIDGE = {
  FORWARD_DELAY: 1,
  STP_STATE: 5,
  VLAN_FILTERING: 7,
  MCAST_SNOOPING: 23,
  VLAN_DEFAULT_PVID: 39,
} as const;
const VLAN_ID = 1;
const INET6_ADDR_GEN_MODE = 8;
const ADDR_GEN_NONE = 1;
const IFF_UP = 1;
const RTEXT_FILTER_SKIP_STATS = 8;

export const ifinfo = (index = 0, up?: boolean): Buffer =>
  fixed(
    [1, 0],
    [1, 0],
    [2, 0],
    [4, index],
    [4, up === true ? IFF_UP : 0],
    [4, up === undefined ? 0 : IFF_UP],
  );

const familyOf = (ip: string): number => (ip.includes(':') ? AF_INET6 : AF_INET);

/** All links, without their counters. */
export const dumpLinks: Request = {
  type: RTM.GETLINK,
  flags: 0,
  body: Buffer.concat([ifinfo(), u32Attr(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS)]),
};
export const dumpAddresses: Request = {
  type: RTM.GETADDR,
  flags: 0,
  body: fixed([1, 0], [1, 0], [1, 0], [1, 0], [4, 0]),
};
export const dumpRoutes: Request = { type: RTM.GETROUTE, flags: 0, body: Buffer.alloc(12) };
export const dumpNeighbours: Request = { type: RTM.GETNEIGH, flags: 0, body: ndmsg(0, 0, 0, 0) };
export const dumpProxies: Request = { type: RTM.GETNEIGH, flags: 0, body: ndmsg(0, 0, 0, 0x08) };
export const dumpFdb: Request = { type: RTM.GETNEIGH, flags: 0, body: ndmsg(AF_BRIDGE, 0, 0, 0) };

export const getLink = (name: string): Request => ({
  type: RTM.GETLINK,
  flags: 0,
  body: Buffer.concat([
    ifinfo(),
    textAttr(IFLA.IFNAME, name),
    u32Attr(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS),
  ]),
});

export const getLinkAt = (index: number): Request => ({ type: RTM.GETLINK, flags: 0, body: ifinfo(index) });

export type MadeLink = VxlanLink | BridgeLink | VlanLink | VethLink;

/**
 * @param peerFd the namespace that a veth's other end is made in
 * @param base the bridge of a link in a VLAN
 */
export function createLink(link: MadeLink, peerFd: number | undefined, base?: number): Request {
  const common = [textAttr(IFLA.IFNAME, link.name), u32Attr(IFLA.GROUP, WEFT_MARK)];
  // A bridge follows the MTU of its ports until somebody sets one, and this would not count (net/bridge/br_device.c).
  if (link.type !== 'bridge') common.push(u32Attr(IFLA.MTU, link.mtu));
  if (base !== undefined) common.push(u32Attr(IFLA.LINK, base));
  const body = Buffer.concat([ifinfo(), ...common, ...kindAttrs(link, peerFd)]);
  return { type: RTM.NEWLINK, flags: NLM_F.CREATE | NLM_F.EXCL, body };
}

function kindAttrs(link: MadeLink, peerFd: number | undefined): Buffer[] {
  const info = (kind: string, ...data: Buffer[]): Buffer =>
    nested(IFLA.LINKINFO, textAttr(INFO.KIND, kind), nested(INFO.DATA, ...data));
  switch (link.type) {
    case 'vxlan':
      return [
        macAttr(IFLA.ADDRESS, link.mac),
        info(
          'vxlan',
          u32Attr(VXLAN.ID, link.vni),
          localAttr(link),
          be16Attr(VXLAN.PORT, link.port),
          u8Attr(VXLAN.LEARNING, 0),
        ),
      ];
    case 'bridge':
      return [
        macAttr(IFLA.ADDRESS, link.mac),
        // A port forwards from the first packet on; without IGMP groups to track every multicast goes to every port.
        info(
          'bridge',
          u32Attr(BRIDGE.FORWARD_DELAY, 0),
          u32Attr(BRIDGE.STP_STATE, 0),
          u8Attr(BRIDGE.MCAST_SNOOPING, 0),
          // No port is in a VLAN before it is put into one.
          ...(link.vlans === true
            ? [u8Attr(BRIDGE.VLAN_FILTERING, 1), u16Attr(BRIDGE.VLAN_DEFAULT_PVID, 0)]
            : []),
        ),
      ];
    case 'vlan':
      return [info('vlan', u16Attr(VLAN_ID, link.vlan))];
    case 'veth': {
      const peer = [
        ifinfo(),
        textAttr(IFLA.IFNAME, link.peer.name),
        macAttr(IFLA.ADDRESS, link.peer.mac),
        u32Attr(IFLA.MTU, link.mtu),
        u32Attr(IFLA.GROUP, WEFT_MARK),
        ...(peerFd === undefined ? [] : [u32Attr(IFLA.NET_NS_FD, peerFd)]),
      ];
      return [info('veth', attr(VETH_INFO_PEER, Buffer.concat(peer)))];
    }
  }
}

const localAttr = ({ local }: VxlanLink): Buffer =>
  ipAttr(local.includes(':') ? VXLAN.LOCAL6 : VXLAN.LOCAL, local);

/**
 * Everything of a link that differs and can be changed while it is there, and then: up. Setting a MAC address that is there
 * already would cost the link its neighbour entries (NETDEV_CHANGEADDR).
 */
export function changeLink(
  link: LinkObject,
  current: { index: number; mtu: number; mac: string; up: boolean; hairpin: boolean },
  masterIndex: number | undefined,
): Request[] {
  const { index } = current;
  const up: Request[] = current.up ? [] : [{ type: RTM.SETLINK, flags: 0, body: ifinfo(index, true) }];
  if (link.type === 'loopback') return up;
  const attrs: Buffer[] = [];
  if (link.mtu !== current.mtu) attrs.push(u32Attr(IFLA.MTU, link.mtu));
  if ('mac' in link && link.mac !== current.mac) attrs.push(macAttr(IFLA.ADDRESS, link.mac));
  if ('alias' in link)
    attrs.push(u32Attr(IFLA.GROUP, WEFT_MARK), attr(IFLA.IFALIAS, Buffer.from(link.alias)));
  if (masterIndex !== undefined) attrs.push(u32Attr(IFLA.MASTER, masterIndex));
  const changes: Request[] =
    attrs.length === 0
      ? []
      : [{ type: RTM.SETLINK, flags: 0, body: Buffer.concat([ifinfo(index), ...attrs]) }];
  if (link.type === 'veth' && (link.hairpin ?? false) !== current.hairpin) {
    changes.push(hairpinRequest(index, link.hairpin ?? false));
  }
  // A tunnel and a bridge port need no IPv6 address of their own link, and a bridge is given one. Set before up, which
  // would make one. The bridge of a LAN has the host's.
  if (link.type !== 'peer' && !isLanBridge(link.name)) changes.push(withoutLinkLocal(index));
  return [...changes, ...up];
}

/** A port's own settings are changed as a new link of the same index would be (net/core/rtnetlink.c, slave_changelink). */
const hairpinRequest = (index: number, on: boolean): Request => ({
  type: RTM.NEWLINK,
  flags: 0,
  body: Buffer.concat([
    ifinfo(index),
    nested(
      IFLA.LINKINFO,
      textAttr(INFO.SLAVE_KIND, 'bridge'),
      nested(INFO.SLAVE_DATA, u8Attr(BRPORT_MODE, on ? 1 : 0)),
    ),
  ]),
});

/** Refused where the link has no IPv6: an MTU below 1280, or a kernel started with ipv6.disable=1. Then nothing is missing. */
const withoutLinkLocal = (index: number): Request => ({
  type: RTM.SETLINK,
  flags: 0,
  optional: true,
  body: Buffer.concat([
    ifinfo(index),
    nested(IFLA.AF_SPEC, nested(AF_INET6, u8Attr(INET6_ADDR_GEN_MODE, ADDR_GEN_NONE))),
  ]),
});

/** A tunnel's own address is changed like a new link of the same name without NLM_F_EXCL (vxlan_changelink). */
export const changeTunnel = (link: VxlanLink, index: number): Request => ({
  type: RTM.NEWLINK,
  flags: 0,
  body: Buffer.concat([
    ifinfo(index),
    nested(
      IFLA.LINKINFO,
      textAttr(INFO.KIND, 'vxlan'),
      nested(INFO.DATA, u32Attr(VXLAN.ID, link.vni), localAttr(link)),
    ),
  ]),
});

export const deleteLink = (index: number): Request => ({ type: RTM.DELLINK, flags: 0, body: ifinfo(index) });

const IFA = { ADDRESS: 1, LOCAL: 2, BROADCAST: 4, PROTO: 11 } as const;
const IFA_F_NODAD = 0x02;

export function addressRequest(object: AddressObject, index: number, put: boolean): Request {
  const { address, length } = parseInterface(object.address);
  const ip = address.toString();
  const v6 = address.family === 6;
  const body = Buffer.concat([
    fixed([1, familyOf(ip)], [1, length], [1, v6 && put ? IFA_F_NODAD : 0], [1, 0], [4, index]),
    ipAttr(IFA.LOCAL, ip),
    ipAttr(IFA.ADDRESS, ip),
    // Kernels before 5.18 do not know it and pass over it.
    ...(put ? [u8Attr(IFA.PROTO, WEFT_MARK)] : []),
  ]);
  return put
    ? { type: RTM.NEWADDR, flags: NLM_F.CREATE | NLM_F.REPLACE, body }
    : { type: RTM.DELADDR, flags: 0, body };
}

const isLinkLocal = (prefix: string): boolean => prefix.startsWith('fe80:');

const RTA = { DST: 1, OIF: 4, GATEWAY: 5, PREFSRC: 7 } as const;
const RT_TABLE_MAIN = 254;
const RT_SCOPE_LINK = 253;
const RTN_UNICAST = 1;
const RTNH_F_ONLINK = 4;

export function routeRequest(
  object: RouteObject,
  index: number,
  how: 'create' | 'replace' | 'delete',
): Request {
  const { address, length } = parseInterface(object.to);
  const to = address.toString();
  // IPv6 knows no scopes of routes.
  const scope = object.via === undefined && address.family === 4 && how !== 'delete' ? RT_SCOPE_LINK : 0;
  const body = Buffer.concat([
    fixed([1, familyOf(to)], [1, length], [1, 0], [1, 0]),
    fixed(
      [1, RT_TABLE_MAIN],
      [1, WEFT_MARK],
      [1, how === 'delete' ? RT_SCOPE_NOWHERE : scope],
      [1, RTN_UNICAST],
    ),
    fixed([4, object.onlink === true ? RTNH_F_ONLINK : 0]),
    ...(length === 0 ? [] : [ipAttr(RTA.DST, to)]),
    ...(object.via === undefined ? [] : [ipAttr(RTA.GATEWAY, object.via)]),
    ...(object.src === undefined ? [] : [ipAttr(RTA.PREFSRC, object.src)]),
    u32Attr(RTA.OIF, index),
  ]);
  if (how === 'delete') return { type: RTM.DELROUTE, flags: 0, body };
  // Each link has its own way to fe80::/64, and others' are no obstacle.
  const alone = isLinkLocal(object.to) ? 0 : NLM_F.EXCL;
  return { type: RTM.NEWROUTE, flags: NLM_F.CREATE | (how === 'replace' ? NLM_F.REPLACE : alone), body };
}

/** In a deletion: of whatever scope. */
const RT_SCOPE_NOWHERE = 255;

const NDA = { DST: 1, LLADDR: 2, PROTOCOL: 12 } as const;
const NUD_PERMANENT = 0x80;
const NTF_SELF = 0x02;
const NTF_PROXY = 0x08;

function ndmsg(family: number, index: number, state: number, flags: number): Buffer {
  return fixed([1, family], [1, 0], [2, 0], [4, index], [2, state], [1, flags], [1, 0]);
}

/** @param ip its bytes */
export const forgetNeighbour = (family: number, index: number, ip: Buffer): Request => ({
  type: RTM.DELNEIGH,
  flags: 0,
  body: Buffer.concat([ndmsg(family, index, 0, 0), attr(NDA.DST, ip)]),
});

export function neighbourRequest(
  object: NeighbourObject | ProxyObject | FdbObject,
  index: number,
  put: boolean,
): Request {
  const mark = put ? [u8Attr(NDA.PROTOCOL, WEFT_MARK)] : [];
  const body = ((): Buffer => {
    switch (object.kind) {
      case 'neighbour':
        return Buffer.concat([
          ndmsg(familyOf(object.ip), index, NUD_PERMANENT, 0),
          ipAttr(NDA.DST, object.ip),
          ...(put ? [macAttr(NDA.LLADDR, object.mac)] : []),
          ...mark,
        ]);
      case 'proxy':
        return Buffer.concat([
          ndmsg(familyOf(object.ip), index, NUD_PERMANENT, NTF_PROXY),
          ipAttr(NDA.DST, object.ip),
          ...mark,
        ]);
      case 'fdb':
        return Buffer.concat([
          ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF),
          macAttr(NDA.LLADDR, object.mac),
          ipAttr(NDA.DST, object.dst),
        ]);
    }
  })();
  if (!put) return { type: RTM.DELNEIGH, flags: 0, body };
  // A MAC address leads to one VTEP: a new one takes the place of the old (vxlan_fdb_update_existing).
  return { type: RTM.NEWNEIGH, flags: NLM_F.CREATE | NLM_F.REPLACE, body };
}
