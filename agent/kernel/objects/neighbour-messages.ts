// Neighbour messages, which carry neighbours, proxies and FDB entries (include/uapi/linux/neighbour.h).
import { isLanBridge, type ActualObject } from '../../../core/objects/index.js';
import { AF_BRIDGE, AF_INET, AF_INET6 } from '../libc.js';
import { attr, decodeAttrs, fixed, NLM_F, readIp, readMac, RTM, type Request } from '../netlink-message.js';
import type { ItemEvent } from './codec.js';
import type { KernelLink, LinkLookup, View } from './readings.js';

export const NDA = { DST: 1, LLADDR: 2, PROTOCOL: 12 } as const;
export const NUD_PERMANENT = 0x80;
/** Static, in an FDB. */
export const NUD_NOARP = 0x40;
const NUD_INCOMPLETE = 0x01;
export const NUD_REACHABLE = 0x02;
const NUD_STALE = 0x04;
/** Reachable, stale, or being asked about: there is a link address that was good. */
export const NUD_KNOWN = NUD_REACHABLE | NUD_STALE | 0x08 | 0x10;
export const NTF = { SELF: 0x02, MASTER: 0x04, PROXY: 0x08, STICKY: 0x40, ROUTER: 0x80 } as const;

export const familyOf = (ip: string): number => (ip.includes(':') ? AF_INET6 : AF_INET);

export const ndmsg = (family: number, index: number, state: number, flags: number): Buffer =>
  fixed([1, family], [1, 0], [2, 0], [4, index], [2, state], [1, flags], [1, 0]);

export const dumpNeighbours: Request = { type: RTM.GETNEIGH, flags: 0, body: ndmsg(0, 0, 0, 0) };
export const dumpProxies: Request = { type: RTM.GETNEIGH, flags: 0, body: ndmsg(0, 0, 0, NTF.PROXY) };
export const dumpFdb: Request = { type: RTM.GETNEIGH, flags: 0, body: ndmsg(AF_BRIDGE, 0, 0, 0) };

export const neighbourRequest = (put: boolean, ...parts: Buffer[]): Request =>
  put
    ? { type: RTM.NEWNEIGH, flags: NLM_F.CREATE | NLM_F.REPLACE, body: Buffer.concat(parts) }
    : { type: RTM.DELNEIGH, flags: 0, body: Buffer.concat(parts) };

/** The unresolved neighbour in a message, as family and address bytes. */
export function unresolvedNeighbour(body: Buffer, index: number): { family: number; ip: Buffer } | undefined {
  if (body.readInt32LE(4) !== index || body.readUInt16LE(8) !== NUD_INCOMPLETE) return undefined;
  const ip = decodeAttrs(body, 12).get(NDA.DST);
  return ip === undefined ? undefined : { family: body.readUInt8(0), ip };
}

export const forgetNeighbour = (family: number, index: number, ip: Buffer): Request =>
  neighbourRequest(false, ndmsg(family, index, 0, 0), attr(NDA.DST, ip));

/**
 * Requests that let a link know the neighbours that another one knows. A learned one is to be confirmed (NUD_STALE): it is used at
 * once, and asked by unicast.
 */
export function neighboursFor(bodies: readonly Buffer[], from: number, to: number): Request[] {
  return bodies.flatMap((body) => {
    const attrs = decodeAttrs(body, 12);
    const [dst, mac] = [attrs.get(NDA.DST), attrs.get(NDA.LLADDR)];
    const state = body.readUInt16LE(8);
    if (body.readInt32LE(4) !== from || dst === undefined || mac === undefined) return [];
    if ((state & (NUD_PERMANENT | NUD_KNOWN)) === 0) return [];
    const as = (state & NUD_PERMANENT) === 0 ? NUD_STALE : NUD_PERMANENT;
    const head = ndmsg(body.readUInt8(0), to, as, body.readUInt8(10) & NTF.ROUTER);
    return [
      {
        type: RTM.NEWNEIGH,
        flags: NLM_F.CREATE | NLM_F.EXCL,
        body: Buffer.concat([head, attr(NDA.DST, dst), attr(NDA.LLADDR, mac)]),
      },
    ];
  });
}

/** One decoded message, on a link of weft's. */
export interface Entry {
  link: KernelLink;
  dst: string | undefined;
  mac: string | undefined;
}

interface EntryKind {
  dump: Request;
  /** Whether the header is that of an entry of this kind. */
  is(family: number, flags: number): boolean;
  object(entry: Entry): ActualObject['object'] | undefined;
  /** The kernel reports such entries without the permanent flag. */
  always?: true;
}

/** Permanent entries on weft's links: all that weft makes, and none that the kernel learns. */
export function entryReader(kind: EntryKind): {
  observe(view: View): ActualObject[];
  messageTypes: readonly number[];
  events(type: number, body: Buffer, lookup: LinkLookup): ItemEvent[];
} {
  const decode = (
    body: Buffer,
    links: LinkLookup,
  ): { actual: ActualObject; permanent: boolean } | undefined => {
    if (!kind.is(body.readUInt8(0), body.readUInt8(10))) return undefined;
    const link = links.byIndex(body.readInt32LE(4));
    if (link?.owned !== true || link.object === undefined || links.role === 'container') return undefined;
    // The host's own neighbours behind its NIC.
    if (isLanBridge(link.name)) return undefined;
    const attrs = decodeAttrs(body, 12);
    const dst = attrs.get(NDA.DST);
    const mac = attrs.get(NDA.LLADDR);
    const object = kind.object({
      link,
      dst: dst === undefined ? undefined : readIp(dst),
      mac: mac === undefined ? undefined : readMac(mac),
    });
    if (object === undefined) return undefined;
    const permanent = kind.always === true || (body.readUInt16LE(8) & NUD_PERMANENT) !== 0;
    return { permanent, actual: { object, owned: true } };
  };
  return {
    observe: ({ role, dump, lookup }) =>
      role === 'container'
        ? []
        : dump(kind.dump).flatMap(({ body }) => {
            const entry = decode(body, lookup);
            return entry?.permanent === true ? [entry.actual] : [];
          }),
    messageTypes: [RTM.NEWNEIGH, RTM.DELNEIGH],
    events(type, body, lookup) {
      const entry = decode(body, lookup);
      return entry === undefined
        ? []
        : [{ actual: entry.actual, there: type === RTM.NEWNEIGH && entry.permanent }];
    },
  };
}
