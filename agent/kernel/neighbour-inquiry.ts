// Neighbours of a link: what the kernel knows of one, and who says that an address is its own.
//
// It answers why a host on the link is not reached: two hosts with one address, or an entry that somebody made by hand.
import { IpAddress } from '../../core/address.js';
import { AF_PACKET, macBytes, u16 } from './frames.js';
import type { NeighbourTable, NextHop } from './kernel.js';
import { bindSocket, closeAside, openSocket, receiveFrom, sendTo } from './libc.js';
import type { LinuxNamespace } from './namespace.js';
import { advertisers } from './neighbour-solicitation.js';
import { decodeAttrs, fixed, readIp, readMac, RTM, type Request } from './netlink-message.js';
import { decodeNextHop, dumpNeighbours, lookUpRoute, NDA, NUD_PERMANENT } from './objects/index.js';

const ETH_P_ARP = 0x0806;
const ARP_REPLY = 2;
/** When answers are collected, in milliseconds after the question: a second one may be later than the first. */
const LOOKS = [10, 50, 200];

// include/uapi/linux/neighbour.h: struct ndtmsg, NDTA_THRESH3, NDTA_CONFIG and ndtc_entries in it.
const dumpTables: Request = { type: RTM.GETNEIGHTBL, flags: 0, body: fixed([1, 0], [1, 0], [2, 0]) };
const NDTA = { THRESH3: 4, CONFIG: 5 } as const;
const ENTRIES_AT = 4;
const AF_OF = { 2: 4, 10: 6 } as const;

interface KnownNeighbour {
  index: number;
  ip: string;
  mac: string | undefined;
  permanent: boolean;
}

function neighboursOf(node: LinuxNamespace): KnownNeighbour[] {
  return node.socket.dump(dumpNeighbours).flatMap(({ body }) => {
    const attrs = decodeAttrs(body, 12);
    const [dst, mac] = [attrs.get(NDA.DST), attrs.get(NDA.LLADDR)];
    if (dst === undefined) return [];
    return [
      {
        index: body.readInt32LE(4),
        ip: readIp(dst),
        mac: mac === undefined ? undefined : readMac(mac),
        permanent: (body.readUInt16LE(8) & NUD_PERMANENT) !== 0,
      },
    ];
  });
}

/** See Kernel.nextHop. @throws SystemError */
export function nextHop(node: LinuxNamespace, ip: string): NextHop | undefined {
  const answer = node.socket.get(lookUpRoute(ip, IpAddress.parse(ip).family));
  const hop = answer && decodeNextHop(answer.body);
  const link = hop && node.links().get(hop.index);
  if (hop === undefined || link === undefined) return undefined;
  const via = hop.via ?? ip;
  const entry = neighboursOf(node).find((known) => known.index === hop.index && known.ip === via);
  return {
    ip: via,
    link: link.name,
    ...(entry?.permanent === true && entry.mac !== undefined && { permanent: entry.mac }),
  };
}

/** See Kernel.whoHas. @throws SystemError */
export async function whoHas(node: LinuxNamespace, name: string, ip: string): Promise<string[]> {
  const links = [...node.links().values()];
  const link = links.find((it) => it.name === name);
  if (link === undefined) return [];
  const target = IpAddress.parse(ip);
  const macs =
    target.family === 4
      ? await askByArp(link, target)
      : await advertisers(link, Buffer.from(target.toBytes()), () => false);
  const own = links.map(({ mac }) => mac);
  return [...macs].filter((mac) => !own.includes(mac)).toSorted();
}

async function askByArp(
  { index, mac }: { index: number; mac: string },
  target: IpAddress,
): Promise<Set<string>> {
  const fd = openSocket(AF_PACKET, ((ETH_P_ARP & 0xff) << 8) | (ETH_P_ARP >> 8));
  const found = new Set<string>();
  try {
    bindSocket(fd, linkAddress(index));
    // Without an address of the sender it changes nothing that anybody knows (RFC 5227 §2.1.1).
    const request = Buffer.concat([
      ...[macBytes('ff:ff:ff:ff:ff:ff'), macBytes(mac), u16(ETH_P_ARP)],
      ...[u16(1, 0x0800, 0x0604, 1), macBytes(mac), Buffer.alloc(4), Buffer.alloc(6), target.toBytes()],
    ]);
    sendTo(fd, request, linkAddress(index));
    const frame = Buffer.alloc(128);
    for (const [i, look] of LOOKS.entries()) {
      await new Promise((resolve) => setTimeout(resolve, look - (LOOKS[i - 1] ?? 0)));
      for (let length = receiveFrom(fd, frame); length !== undefined; length = receiveFrom(fd, frame)) {
        if (length < 42 || frame.readUInt16BE(20) !== ARP_REPLY) continue;
        if (frame.subarray(28, 32).equals(target.toBytes())) found.add(readMac(frame.subarray(22, 28)));
      }
    }
    return found;
  } finally {
    closeAside(fd);
  }
}

/** struct sockaddr_ll (include/uapi/linux/if_packet.h). */
function linkAddress(index: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt16LE(AF_PACKET, 0);
  bytes.writeUInt16BE(ETH_P_ARP, 2);
  bytes.writeInt32LE(index, 4);
  return bytes;
}

/** See Kernel.neighbourTables. The kernel counts the entries of all its namespaces. @throws SystemError */
export function neighbourTables(node: LinuxNamespace): NeighbourTable[] {
  let known: KnownNeighbour[] | undefined;
  return node.socket.dump(dumpTables).flatMap(({ body }): NeighbourTable[] => {
    const family = AF_OF[body.readUInt8(0) as keyof typeof AF_OF] as 4 | 6 | undefined;
    const attrs = decodeAttrs(body, 4);
    const most = attrs.get(NDTA.THRESH3)?.readUInt32LE();
    const all = attrs.get(NDTA.CONFIG)?.readUInt32LE(ENTRIES_AT);
    if (family === undefined || most === undefined || all === undefined) return [];
    if (all < most / 2) return [{ family, most, entries: all }];
    // Permanent entries do not count towards the limit.
    known ??= neighboursOf(node);
    const own = known.filter(({ ip }) => ip.includes(':') === (family === 6));
    const entries = all - own.filter(({ permanent }) => permanent).length;
    return [{ family, most, entries, known: new Set(own.map(({ ip }) => ip)) }];
  });
}
