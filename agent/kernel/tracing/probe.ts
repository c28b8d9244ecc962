// The packets of a trace: a probe that carries a tag, and the answer to it.
//
// The tag is where no rule and no translation of addresses changes it, so that the packet is known again at every point: in the
// payload of ICMP echo and UDP, in the sequence number of TCP. An echo reply repeats the payload (RFC 792, RFC 4443 §4.2); what
// answers a SYN acknowledges the number after it (RFC 9293 §3.5); the datagram that answers UDP is weft's own.
import { IpAddress, type Family } from '../../../core/address.js';
import { checksum } from '../internet-checksum.js';

export type TraceProtocol = 'icmp' | 'tcp' | 'udp';

/** What is looked for. */
export interface TraceFilter {
  family: Family;
  protocol: TraceProtocol;
  /** 32 bits. */
  tag: number;
  /** Bytes of the IP packet. */
  size: number;
}

export interface TracePacket extends TraceFilter {
  source: string;
  destination: string;
  /** Without ports: 0. */
  sourcePort: number;
  port: number;
}

/** Bytes of an IP header without options or extensions. */
export const IP_HEADER = { 4: 20, 6: 40 } as const;
/** Bytes from the start of an ICMP error to the packet that it quotes. */
export const ICMP_HEADER = 8;
/** Without options. */
const TCP_HEADER = 20;
export const ICMP_PROTOCOL = { 4: 1, 6: 58 } as const;
export const ECHO = { 4: { request: 8, reply: 0 }, 6: { request: 128, reply: 129 } } as const;
const PROTOCOL = { tcp: 6, udp: 17 } as const;
export const TCP = { fin: 1, syn: 2, rst: 4, ack: 16 } as const;

/** Where the tag is, in bytes from the start of the transport header, on the way there and back. */
export const TAG_AT = {
  icmp: { there: 8, back: 8 },
  tcp: { there: 4, back: 8 },
  udp: { there: 8, back: 8 },
} as const;

export const protocolNumber = ({ protocol, family }: Pick<TraceFilter, 'protocol' | 'family'>): number =>
  protocol === 'icmp' ? ICMP_PROTOCOL[family] : PROTOCOL[protocol];

/** The tags of answers. A reset acknowledges the data of a SYN, too, which what accepts it does not (RFC 9293 §3.10.7). */
export function answerTags({ protocol, tag, family, size }: TraceFilter): number[] {
  if (protocol === 'icmp') return [tag];
  const data = protocol === 'tcp' ? Math.max(0, size - IP_HEADER[family] - TCP_HEADER) : 0;
  return [...new Set([tag + 1, tag + 1 + data].map((next) => next >>> 0))];
}

/** Bytes of the smallest packet that carries a tag. */
export const smallestSize = ({ protocol, family }: Pick<TraceFilter, 'protocol' | 'family'>): number =>
  IP_HEADER[family] + (protocol === 'tcp' ? TCP_HEADER : 12);

/** What is behind the IP header, which the kernel writes. */
export function encodeProbe(packet: TracePacket): Buffer {
  const { protocol, family, tag, size, sourcePort, port } = packet;
  const bytes = Buffer.alloc(Math.max(size, smallestSize(packet)) - IP_HEADER[family]);
  switch (protocol) {
    case 'icmp':
      bytes.writeUInt8(ECHO[family].request, 0);
      bytes.writeUInt16BE(tag & 0xffff, 4);
      bytes.writeUInt32BE(tag, 8);
      // Of ICMPv6 the kernel computes it (RFC 3542 §3.1).
      if (family === 4) bytes.writeUInt16BE(checksum(bytes), 2);
      return bytes;
    case 'tcp':
      bytes.writeUInt16BE(sourcePort, 0);
      bytes.writeUInt16BE(port, 2);
      bytes.writeUInt32BE(tag, 4);
      // Five words of header, the SYN flag, and a window.
      bytes.writeUInt8(5 << 4, 12);
      bytes.writeUInt8(TCP.syn, 13);
      bytes.writeUInt16BE(0xffff, 14);
      return withChecksum(packet, bytes, 16);
    case 'udp':
      return encodeDatagram(packet, bytes, tag);
  }
}

/** The answer of a UDP port, which weft sends in its place. @param packet as it would be sent by the port */
export const encodeAnswer = (packet: TracePacket): Buffer =>
  encodeDatagram(
    packet,
    Buffer.alloc(Math.max(packet.size, smallestSize(packet)) - IP_HEADER[packet.family]),
    (packet.tag + 1) >>> 0,
  );

function encodeDatagram(packet: TracePacket, bytes: Buffer, tag: number): Buffer {
  bytes.writeUInt16BE(packet.sourcePort, 0);
  bytes.writeUInt16BE(packet.port, 2);
  bytes.writeUInt16BE(bytes.length, 4);
  bytes.writeUInt32BE(tag, 8);
  return withChecksum(packet, bytes, 6);
}

/** The checksum covers a part of the IP header, too (RFC 9293 §3.1, RFC 768, RFC 8200 §8.1). */
function withChecksum(packet: TracePacket, bytes: Buffer, at: number): Buffer {
  const tail = Buffer.alloc(8);
  tail.writeUInt32BE(bytes.length, 0);
  tail.writeUInt8(protocolNumber(packet), 7);
  const addresses = [packet.source, packet.destination].map((ip) => IpAddress.parse(ip).toBytes());
  const sum = checksum(Buffer.concat([...addresses, tail, bytes]));
  // Of UDP a sum of 0 means that there is none.
  bytes.writeUInt16BE(sum === 0 ? 0xffff : sum, at);
  return bytes;
}
