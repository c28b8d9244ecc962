// Recognizes the packets of a trace: a filter for the kernel, and the decoder of what passes it.
//
// A packet is found whole, or behind the headers of a tunnel (VXLAN, flannel's UDP, IP in IP). An encrypted one is not.
import { readIp } from '../netlink-message.js';
import {
  answerTags,
  ECHO,
  ICMP_HEADER,
  ICMP_PROTOCOL,
  IP_HEADER,
  protocolNumber,
  TAG_AT,
  TCP,
  type TraceFilter,
} from './probe.js';

/** Bytes before the inner IP header: none; IPv4; IPv4 and UDP; IPv6 and UDP; the same with VXLAN and Ethernet. */
const ENCAPSULATIONS = [0, 20, 28, 48, 50, 70] as const;
/** Bytes of a packet that are read. */
export const SNAP_BYTES = 256;

// ICMP errors, which quote the packet that they are about (RFC 792; RFC 4443 §3). A redirect is none.
const ERRORS = { 4: [3, 11, 12], 6: [1, 2, 3, 4] } as const;

/** What was seen of a trace's packet. */
export interface SeenPacket {
  /** The probe, its answer, or an ICMP error about either. */
  kind: 'there' | 'back' | 'error';
  source: string;
  destination: string;
  sourcePort: number;
  port: number;
  /** The answer says that nobody listens. */
  refused: boolean;
  error?: { type: number; code: number; mtu: number; about: 'there' | 'back' };
}

/** Where a tag may be, with the tag, by bytes from the start of the packet. */
function places(filter: TraceFilter): [at: number, tag: number][] {
  const header = IP_HEADER[filter.family];
  const { there, back } = TAG_AT[filter.protocol];
  const quoted = header + ICMP_HEADER;
  const found = ENCAPSULATIONS.flatMap((before): [number, number][] =>
    [0, quoted].flatMap((quote): [number, number][] => [
      [before + quote + header + there, filter.tag],
      ...answerTags(filter).map((tag): [number, number] => [before + quote + header + back, tag]),
    ]),
  );
  const unique = new Map(found.map((place) => [place.join(), place]));
  return [...unique.values()].toSorted(([a], [b]) => a - b);
}

// include/uapi/linux/bpf_common.h, filter.h
const BPF = { load: 0x20, jumpIfEqual: 0x15, return: 0x06 } as const;

/**
 * Classic BPF, which passes what may be a packet of the trace. Nearer places come first: a load behind the end of a packet
 * drops it.
 * @param from bytes of the packet that the socket does not show
 */
export function filterProgram(filter: TraceFilter, from = 0): Buffer {
  const tests = places(filter).filter(([at]) => at >= from);
  const program: [code: number, jumpTrue: number, jumpFalse: number, value: number][] = [];
  for (const [i, [at, tag]] of tests.entries()) {
    const left = tests.length - 1 - i;
    // To the last instruction, over the tests that are left and the one that drops.
    program.push([BPF.load, 0, 0, at - from], [BPF.jumpIfEqual, 2 * left + 1, 0, tag]);
  }
  program.push([BPF.return, 0, 0, 0], [BPF.return, 0, 0, SNAP_BYTES]);
  return Buffer.concat(
    program.map(([code, jumpTrue, jumpFalse, value]) => {
      const bytes = Buffer.alloc(8);
      bytes.writeUInt16LE(code, 0);
      bytes.writeUInt8(jumpTrue, 2);
      bytes.writeUInt8(jumpFalse, 3);
      bytes.writeUInt32LE(value, 4);
      return bytes;
    }),
  );
}

/** Whole, or behind the headers of a tunnel. Undefined for a packet that only looked like one. */
export function decodeSeen(bytes: Buffer, filter: TraceFilter): SeenPacket | undefined {
  for (const at of ENCAPSULATIONS) {
    const found = decodeWhole(bytes.subarray(at), filter);
    if (found !== undefined) return found;
  }
  return undefined;
}

export function decodeWhole(packet: Buffer, filter: TraceFilter): SeenPacket | undefined {
  const { family } = filter;
  const ip = decodeIp(packet, filter);
  if (ip === undefined) return undefined;
  const transport = packet.subarray(IP_HEADER[family]);
  const seen = decodeTransport(ip.protocol, transport, filter);
  const { source, destination } = ip;
  if (seen !== undefined) return { source, destination, ...seen };
  const type = transport.length < ICMP_HEADER ? -1 : transport.readUInt8(0);
  if (ip.protocol !== ICMP_PROTOCOL[family] || !ERRORS[family].some((error) => error === type))
    return undefined;
  const quoted = transport.subarray(ICMP_HEADER);
  const inner = decodeIp(quoted, filter);
  const about = inner && decodeTransport(inner.protocol, quoted.subarray(IP_HEADER[family]), filter)?.kind;
  if (about === undefined) return undefined;
  // RFC 1191 §4, RFC 4443 §3.2: the MTU of the next link.
  const mtu = family === 4 ? transport.readUInt16BE(6) : transport.readUInt32BE(4);
  const error = { type, code: transport.readUInt8(1), mtu, about };
  return { kind: 'error', source, destination, sourcePort: 0, port: 0, refused: false, error };
}

function decodeIp(
  packet: Buffer,
  { family }: TraceFilter,
): { protocol: number; source: string; destination: string } | undefined {
  if (packet.length < IP_HEADER[family] || packet.readUInt8(0) >> 4 !== family) return undefined;
  const [protocolAt, from, length] = family === 4 ? [9, 12, 4] : [6, 8, 16];
  return {
    protocol: packet.readUInt8(protocolAt),
    source: readIp(packet.subarray(from, from + length)),
    destination: readIp(packet.subarray(from + length, from + 2 * length)),
  };
}

/** Of a quoted packet the last fields may be missing. */
function decodeTransport(
  protocol: number,
  transport: Buffer,
  filter: TraceFilter,
): { kind: 'there' | 'back'; sourcePort: number; port: number; refused: boolean } | undefined {
  if (protocol !== protocolNumber(filter)) return undefined;
  const { there, back } = TAG_AT[filter.protocol];
  const has = (at: number, tag: number): boolean =>
    transport.length >= at + 4 && transport.readUInt32BE(at) === tag;
  const isThere = has(there, filter.tag);
  if (!isThere && !answerTags(filter).some((tag) => has(back, tag))) return undefined;
  if (filter.protocol === 'icmp') {
    const { request, reply } = ECHO[filter.family];
    const type = transport.readUInt8(0);
    if (type !== request && type !== reply) return undefined;
    return { kind: type === request ? 'there' : 'back', sourcePort: 0, port: 0, refused: false };
  }
  const flags = filter.protocol === 'tcp' && transport.length > 13 ? transport.readUInt8(13) : 0;
  return {
    kind: isThere ? 'there' : 'back',
    sourcePort: transport.readUInt16BE(0),
    port: transport.readUInt16BE(2),
    refused: !isThere && (flags & TCP.rst) !== 0,
  };
}
