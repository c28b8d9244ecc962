// Moves addresses and routes between a NIC and its bridge, in rtnetlink messages.
//
// The kernel's own messages are sent back for another link (include/uapi/linux/if_addr.h, rtnetlink.h).
import { attr, fixed, NLM_F, RTM, u32Attr, type Request } from './netlink-message.js';

const IFA = {
  ADDRESS: 1,
  LOCAL: 2,
  LABEL: 3,
  BROADCAST: 4,
  CACHEINFO: 6,
  FLAGS: 8,
  RT_PRIORITY: 9,
  PROTO: 11,
} as const;
/** Attributes of an address that a request may carry; the kernel sets the rest. */
const IFA_F = {
  NODAD: 0x02,
  HOMEADDRESS: 0x10,
  MANAGETEMPADDR: 0x100,
  NOPREFIXROUTE: 0x200,
  MCAUTOJOIN: 0x400,
} as const;
const KEPT_FLAGS = IFA_F.HOMEADDRESS | IFA_F.MANAGETEMPADDR | IFA_F.NOPREFIXROUTE | IFA_F.MCAUTOJOIN;
const AF_INET6 = 10;

/** All attributes of a message, in order. */
function attributes(body: Buffer, from: number): { type: number; raw: Buffer; payload: Buffer }[] {
  const list: { type: number; raw: Buffer; payload: Buffer }[] = [];
  for (let at = from; at + 4 <= body.length;) {
    const length = body.readUInt16LE(at);
    if (length < 4 || at + length > body.length) break;
    const type = body.readUInt16LE(at + 2);
    const payload = body.subarray(at + 4, at + length);
    list.push({ type: type & 0x3fff, raw: attr(type, payload), payload });
    at += (length + 3) & ~3;
  }
  return list;
}

/**
 * NEWADDR requests for the address on another link. An IPv6 address is usable at once, without duplicate address detection, since
 * it was in use a moment ago; the second request clears that flag.
 * @param label whether the label fits the link's name
 */
export function addAddress(body: Buffer, index: number, label: boolean): Request[] {
  const parts = attributes(body, 8);
  const flags = parts.find((part) => part.type === IFA.FLAGS)?.payload.readUInt32LE() ?? body.readUInt8(2);
  const kept = [IFA.ADDRESS, IFA.LOCAL, IFA.BROADCAST, IFA.CACHEINFO, IFA.RT_PRIORITY, IFA.PROTO] as number[];
  if (label) kept.push(IFA.LABEL);
  const six = body.readUInt8(0) === AF_INET6;
  const request = (extra: number, how: number): Request => ({
    type: RTM.NEWADDR,
    flags: NLM_F.CREATE | how,
    body: Buffer.concat([
      fixed([1, body.readUInt8(0)], [1, body.readUInt8(1)], [1, 0], [1, body.readUInt8(3)], [4, index]),
      ...parts.filter((part) => kept.includes(part.type)).map((part) => part.raw),
      u32Attr(IFA.FLAGS, (flags & KEPT_FLAGS) | extra),
    ]),
  });
  if (!six) return [request(0, NLM_F.EXCL)];
  const detected = (flags & IFA_F.NODAD) === 0;
  return [request(IFA_F.NODAD, NLM_F.EXCL), ...(detected ? [request(0, NLM_F.REPLACE)] : [])];
}

export function deleteAddress(body: Buffer, index: number): Request {
  const kept = [IFA.ADDRESS, IFA.LOCAL] as number[];
  return {
    type: RTM.DELADDR,
    flags: 0,
    body: Buffer.concat([
      fixed([1, body.readUInt8(0)], [1, body.readUInt8(1)], [1, 0], [1, 0], [4, index]),
      ...attributes(body, 8)
        .filter((part) => kept.includes(part.type))
        .map((part) => part.raw),
    ]),
  };
}

const RTA = { OIF: 4, MULTIPATH: 9, CACHEINFO: 12, EXPIRES: 23 } as const;
/** Ticks of a second in the kernel's messages (USER_HZ). */
const TICKS = 100;
const RTNH_F_ONLINK = 4;

/** The route on another link. */
export function routeOn(body: Buffer, from: number, to: number, add: boolean): Request {
  const head = Buffer.from(body.subarray(0, 12));
  head.writeUInt32LE(head.readUInt32LE(8) & RTNH_F_ONLINK, 8);
  const parts = attributes(body, 12).flatMap(({ type, raw, payload }) => {
    if (type === RTA.CACHEINFO) {
      // struct rta_cacheinfo: a route from a router advertisement expires unless it is advertised again.
      const ticks = payload.length >= 12 ? payload.readInt32LE(8) : 0;
      return add && ticks > 0 ? [u32Attr(RTA.EXPIRES, Math.ceil(ticks / TICKS))] : [];
    }
    if (type === RTA.OIF) return [u32Attr(RTA.OIF, to)];
    if (type === RTA.MULTIPATH) return [attr(RTA.MULTIPATH, hopsOn(payload, from, to))];
    return [raw];
  });
  return {
    type: add ? RTM.NEWROUTE : RTM.DELROUTE,
    flags: add ? NLM_F.CREATE | NLM_F.EXCL : 0,
    body: Buffer.concat([head, ...parts]),
  };
}

/** struct rtnexthop: length, flags, hops, link, and attributes of its own. */
function hopsOn(hops: Buffer, from: number, to: number): Buffer {
  const moved = Buffer.from(hops);
  for (let at = 0; at + 8 <= moved.length;) {
    const length = moved.readUInt16LE(at);
    if (length < 8) break;
    moved.writeUInt8(moved.readUInt8(at + 2) & RTNH_F_ONLINK, at + 2);
    if (moved.readInt32LE(at + 4) === from) moved.writeInt32LE(to, at + 4);
    at += (length + 3) & ~3;
  }
  return moved;
}

/** Whether a route uses the link, alone or in a multipath route. */
export function routeUses(body: Buffer, index: number): boolean {
  return attributes(body, 12).some(({ type, payload }) => {
    if (type === RTA.OIF) return payload.readUInt32LE() === index;
    if (type !== RTA.MULTIPATH) return false;
    for (let at = 0; at + 8 <= payload.length;) {
      const length = payload.readUInt16LE(at);
      if (length < 8) return false;
      if (payload.readInt32LE(at + 4) === index) return true;
      at += (length + 3) & ~3;
    }
    return false;
  });
}

/** Identity of an address, without its lifetimes. */
export function addressKey(body: Buffer): string {
  const ips = attributes(body, 8).filter(({ type }) => type === IFA.ADDRESS || type === IFA.LOCAL);
  return `${body.readUInt8(0)}/${body.readUInt8(1)} ${ips.map(({ payload }) => payload.toString('hex')).join(' ')}`;
}

/** Identity of a route: all of it but the link and the kernel's state flags. */
export function routeKey(body: Buffer): string {
  return routeOn(body, 0, 0, false).body.toString('hex');
}

/** The address as it was, with its present remaining lifetimes. */
export function withLifetimes(body: Buffer, from: Buffer): Buffer {
  const now = attributes(from, 8).find(({ type }) => type === IFA.CACHEINFO);
  if (now === undefined) return body;
  const parts = attributes(body, 8).map(({ type, raw }) => (type === IFA.CACHEINFO ? now.raw : raw));
  return Buffer.concat([body.subarray(0, 8), ...parts]);
}
