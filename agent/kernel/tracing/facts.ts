// What the kernel says of the way of a packet, without one: routes, neighbours, FDB entries, links.
import { IpAddress } from '../../../core/address.js';
import type { NamespaceRole } from '../kernel.js';
import type { NetlinkSocket } from '../netlink-socket.js';
import { decodeAttrs, readIp, readMac } from '../netlink-message.js';
import {
  decodeAnswer,
  dumpFdb,
  dumpNeighbours,
  lookUpForward,
  lookUpRoute,
  NDA,
  NUD_KNOWN,
  NUD_NOARP,
  NUD_PERMANENT,
  type KernelLink,
} from '../objects/index.js';
import type { TraceLink, TraceNeighbour, TraceRoute } from './types.js';

/** A namespace that can be read. */
export interface Readable {
  role: NamespaceRole;
  socket: NetlinkSocket;
  links(): ReadonlyMap<number, KernelLink>;
}

export function readTraceLinks(namespace: Readable): TraceLink[] {
  const links = namespace.links();
  return [...links.values()].map(({ index, name, up, running, mtu, mac, ethernet, kind, masterIndex }) => {
    const master = links.get(masterIndex)?.name;
    return { index, name, up, running, mtu, mac, ethernet, kind, ...(master !== undefined && { master }) };
  });
}

/** @param received by which link, and from whom; absent: the namespace itself sends it */
export function readTraceRoute(
  namespace: Readable,
  to: string,
  received?: { link: string; from: string },
): TraceRoute {
  const { family } = IpAddress.parse(to);
  const links = namespace.links();
  const iif = received && [...links.values()].find(({ name }) => name === received.link)?.index;
  if (received !== undefined && iif === undefined) return { errno: 'ENODEV' };
  const request =
    received === undefined || iif === undefined
      ? lookUpRoute(to, family)
      : lookUpForward(to, received.from, iif, family);
  const answer = namespace.socket.ask(request);
  if (answer === undefined) return { errno: 'ENETUNREACH' };
  if (!('body' in answer)) return { errno: answer.errno };
  const { index, via, source, isLocal, nowhere } = decodeAnswer(answer.body);
  if (nowhere) return { errno: 'EINVAL' };
  return {
    link: links.get(index)?.name ?? '',
    isLocal,
    ...(via !== undefined && { via }),
    ...(source !== undefined && { source }),
  };
}

/** @throws SystemError */
export function readTraceNeighbours(namespace: Readable): TraceNeighbour[] {
  const links = namespace.links();
  const entries = namespace.socket.dump(dumpNeighbours);
  const tunnels = namespace.role === 'node' ? namespace.socket.dump(dumpFdb) : [];
  const to = new Map(
    tunnels.flatMap(({ body }): [string, string][] => {
      const attrs = decodeAttrs(body, 12);
      const [mac, dst] = [attrs.get(NDA.LLADDR), attrs.get(NDA.DST)];
      if (mac === undefined || dst === undefined) return [];
      return [[`${body.readInt32LE(4)} ${readMac(mac)}`, readIp(dst)]];
    }),
  );
  return entries.flatMap(({ body }): TraceNeighbour[] => {
    const attrs = decodeAttrs(body, 12);
    const index = body.readInt32LE(4);
    const [dst, address] = [attrs.get(NDA.DST), attrs.get(NDA.LLADDR)];
    const link = links.get(index);
    if (dst === undefined || link === undefined) return [];
    const state = body.readUInt16LE(8);
    const mac = address === undefined ? undefined : readMac(address);
    const tunnel = mac === undefined ? undefined : to.get(`${index} ${mac}`);
    return [
      {
        link: link.name,
        ip: readIp(dst),
        isKnown: (state & (NUD_KNOWN | NUD_PERMANENT | NUD_NOARP)) !== 0,
        isPermanent: (state & NUD_PERMANENT) !== 0,
        ...(mac !== undefined && { mac }),
        ...(tunnel !== undefined && { tunnel }),
      },
    ];
  });
}
