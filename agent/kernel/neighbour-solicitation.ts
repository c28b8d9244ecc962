// Neighbour solicitation in the kernel's place, where the kernel does not hear the answer.
//
// While this host has an address that another host of the link has, too, and duplicate address detection has failed, the
// kernel drops every advertisement for it (ndisc_recv_na in net/ipv6/ndisc.c), and so cannot send to the host that has it
// rightly. A raw socket hears the advertisement; the kernel is told what was in it, as an entry that ages like its own.
import { IpAddress } from '../../core/address.js';
import { AF_INET6, closeFd, openSocket, receiveFrom, sendTo, setOption } from './libc.js';
import type { LinuxNamespace } from './namespace.js';
import { attr, macAttr } from './netlink-message.js';
import { NDA, ndmsg, neighbourRequest, NUD_REACHABLE } from './objects/index.js';

// RFC 4861 §4.3, §4.4, §4.6.1; include/uapi/linux/in6.h, icmpv6.h.
const IPPROTO_ICMPV6 = 58;
const IPPROTO_IPV6 = 41;
const IPV6_MULTICAST_HOPS = 18;
const ICMPV6_FILTER = 1;
const SOLICITATION = 135;
const ADVERTISEMENT = 136;
const SOURCE_LINK_ADDRESS = 1;
const TARGET_LINK_ADDRESS = 2;
const OPTIONS = 24;

/** When the answer is looked for, in milliseconds after the question. */
const LOOKS = [5, 20, 100, 300];

/** See Kernel.solicitNeighbour. @throws SystemError */
export async function solicitNeighbour(node: LinuxNamespace, name: string, ip: string): Promise<boolean> {
  const link = [...node.links().values()].find((it) => it.name === name);
  if (link === undefined) return false;
  const target = Buffer.from(IpAddress.parse(ip).toBytes());
  const [mac] = await advertisers(link, target, (found) => found.size > 0);
  if (mac === undefined) return false;
  const entry = ndmsg(AF_INET6, link.index, NUD_REACHABLE, 0);
  node.socket.batch([neighbourRequest(true, entry, attr(NDA.DST, target), macAttr(NDA.LLADDR, mac))]);
  return true;
}

/** The link addresses that advertise an address on a link. @throws SystemError */
export async function advertisers(
  link: { index: number; mac: string },
  target: Buffer,
  isEnough: (found: ReadonlySet<string>) => boolean,
): Promise<Set<string>> {
  const found = new Set<string>();
  const fd = openSocket(AF_INET6, IPPROTO_ICMPV6);
  try {
    // A set bit drops a type.
    const filter = Buffer.alloc(32, 0xff);
    filter.writeUInt8(0xff & ~(1 << (ADVERTISEMENT & 7)), ADVERTISEMENT >> 3);
    setOption(fd, IPPROTO_ICMPV6, ICMPV6_FILTER, filter);
    // RFC 4861 §7.1.1: with another hop limit it is dropped, as it may have come through a router.
    setOption(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, 255);
    sendTo(fd, solicitation(target, link.mac), solicitedNode(target, link.index));
    for (const [i, look] of LOOKS.entries()) {
      await new Promise((resolve) => setTimeout(resolve, look - (LOOKS[i - 1] ?? 0)));
      for (let mac = advertisedOn(fd, target); mac !== undefined; mac = advertisedOn(fd, target))
        found.add(mac);
      if (isEnough(found)) break;
    }
    return found;
  } finally {
    closeFd(fd);
  }
}

/** The kernel computes the checksum of a raw ICMPv6 socket. */
function solicitation(target: Buffer, mac: string): Buffer {
  const head = Buffer.from([SOLICITATION, 0, 0, 0, 0, 0, 0, 0]);
  const own = Buffer.from(mac.replaceAll(':', ''), 'hex');
  return Buffer.concat([head, target, Buffer.from([SOURCE_LINK_ADDRESS, 1]), own]);
}

/** struct sockaddr_in6 of ff02::1:ffXX:XXXX (RFC 4291 §2.7.1). */
function solicitedNode(target: Buffer, index: number): Buffer {
  const address = Buffer.alloc(28);
  address.writeUInt16LE(AF_INET6, 0);
  address.set([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff], 8);
  address.set(target.subarray(13), 21);
  address.writeUInt32LE(index, 24);
  return address;
}

/** The link address in an advertisement of the target that has arrived. */
function advertisedOn(fd: number, target: Buffer): string | undefined {
  const buffer = Buffer.alloc(512);
  for (let length = receiveFrom(fd, buffer); length !== undefined; length = receiveFrom(fd, buffer)) {
    const isOurs = buffer.readUInt8(0) === ADVERTISEMENT && buffer.subarray(8, OPTIONS).equals(target);
    for (let at = OPTIONS; isOurs && at + 8 <= length; at += Math.max(1, buffer.readUInt8(at + 1)) * 8) {
      if (buffer.readUInt8(at) !== TARGET_LINK_ADDRESS) continue;
      return [...buffer.subarray(at + 2, at + 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
    }
  }
  return undefined;
}
