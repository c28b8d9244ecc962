// Parts of rtnetlink link messages (include/uapi/linux/if_link.h).
import { isLanBridge, WEFT_MARK } from '../../../core/objects/index.js';
import { AF_INET6 } from '../libc.js';
import {
  attr,
  fixed,
  macAttr,
  nested,
  RTM,
  textAttr,
  u32Attr,
  u8Attr,
  type Request,
} from '../netlink-message.js';
import type { KernelLink } from './readings.js';

export const IFLA = {
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
export const INFO = { KIND: 1, DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;
export const BRPORT_MODE = 4;
const IFF_UP = 1;
const INET6_ADDR_GEN_MODE = 8;
const ADDR_GEN_NONE = 1;
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

/** Dumps all links, without their counters. */
export const dumpLinks: Request = {
  type: RTM.GETLINK,
  flags: 0,
  body: Buffer.concat([ifinfo(), u32Attr(IFLA.EXT_MASK, RTEXT_FILTER_SKIP_STATS)]),
};

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

export const deleteLink = (index: number): Request => ({ type: RTM.DELLINK, flags: 0, body: ifinfo(index) });

/** @param master 0: none */
export const setMaster = (index: number, master: number): Request => ({
  type: RTM.SETLINK,
  flags: 0,
  body: Buffer.concat([ifinfo(index), u32Attr(IFLA.MASTER, master)]),
});

/** IFLA_INFO_DATA for the link's driver. */
export const linkInfo = (kind: string, ...data: Buffer[]): Buffer =>
  nested(IFLA.LINKINFO, textAttr(INFO.KIND, kind), nested(INFO.DATA, ...data));

/**
 * MTU, MAC address, alias and mark, as far as the link has them. Setting a MAC address to its present value would cost the link
 * its neighbour entries (NETDEV_CHANGEADDR).
 */
export function setAttributes(
  link: { mtu: number; mac?: string; alias?: string },
  { index, mtu, mac }: KernelLink,
  ...more: Buffer[]
): Request[] {
  const attrs: Buffer[] = [];
  if (link.mtu !== mtu) attrs.push(u32Attr(IFLA.MTU, link.mtu));
  if (link.mac !== undefined && link.mac !== mac) attrs.push(macAttr(IFLA.ADDRESS, link.mac));
  if (link.alias !== undefined)
    attrs.push(u32Attr(IFLA.GROUP, WEFT_MARK), attr(IFLA.IFALIAS, Buffer.from(link.alias)));
  attrs.push(...more);
  return attrs.length === 0
    ? []
    : [{ type: RTM.SETLINK, flags: 0, body: Buffer.concat([ifinfo(index), ...attrs]) }];
}

/**
 * Disables the automatic link-local address: tunnels and bridge ports need none, and bridges get weft's. Sent before up, which
 * would create one. The bridge of a LAN has the host's. The kernel refuses it where the link has no IPv6 (an MTU below 1280, or
 * ipv6.disable=1); then nothing is missing.
 */
export const withoutLinkLocal = ({ index, name }: KernelLink): Request[] =>
  isLanBridge(name)
    ? []
    : [
        {
          type: RTM.SETLINK,
          flags: 0,
          optional: true,
          body: Buffer.concat([
            ifinfo(index),
            nested(IFLA.AF_SPEC, nested(AF_INET6, u8Attr(INET6_ADDR_GEN_MODE, ADDR_GEN_NONE))),
          ]),
        },
      ];

export const bringUp = ({ index, up }: KernelLink): Request[] =>
  up ? [] : [{ type: RTM.SETLINK, flags: 0, body: ifinfo(index, true) }];
