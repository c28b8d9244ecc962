// What is read and written byte by byte.
import test from 'ava';
import fc from 'fast-check';

import { checksum } from '../../../agent/kernel/internet-checksum.js';
import { Prefixes } from '../../../agent/kernel/pump/prefixes.js';
import { parseCounters, risenSince } from '../../../agent/kernel/tracing/legacy-drops.js';
import {
  encodeAnswer,
  encodeProbe,
  IP_HEADER,
  protocolNumber,
  type TracePacket,
} from '../../../agent/kernel/tracing/probe.js';
import { decodeSeen, decodeWhole, filterProgram } from '../../../agent/kernel/tracing/sighting.js';
import { IpAddress } from '../../../core/address.js';

// The Internet checksum of packets with an even and an odd number of bytes.

test('RFC 1071, the numerical example of section 3', (t) => {
  t.is(checksum(Buffer.from('0001f203f4f5f6f7', 'hex')), 0xffff & ~0xddf2);
});

test('law: an odd number of bytes counts as if a zero byte followed', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
      t.is(
        checksum(Buffer.from(bytes)),
        checksum(Buffer.from([...bytes, ...(bytes.length % 2 === 1 ? [0] : [])])),
      );
    }),
  );
});

// The prefixes of a pump's peers.

const number = (text: string): number => Number(IpAddress.parse(text).value);

test('the longest prefix decides, and what changes counts at once', (t) => {
  const prefixes = new Prefixes();
  const peerOf = (text: string): number => prefixes.peerOf(number(text));
  t.is(peerOf('10.1.2.3'), 0);
  prefixes.set(number('10.1.2.0'), 24, number('192.0.2.2'));
  t.is(peerOf('10.1.2.3'), number('192.0.2.2'));
  prefixes.set(number('10.1.2.3'), 32, number('192.0.2.3'));
  t.is(peerOf('10.1.2.3'), number('192.0.2.3'));
  t.is(peerOf('10.1.2.4'), number('192.0.2.2'));
  prefixes.set(number('10.1.2.3'), 32, 0);
  t.is(peerOf('10.1.2.3'), number('192.0.2.2'));
  prefixes.set(number('200.1.0.0'), 16, number('203.0.113.1'));
  t.is(peerOf('200.1.255.255'), number('203.0.113.1'), 'above the middle of the addresses, too');
  prefixes.clear();
  t.is(peerOf('200.1.255.255'), 0);
});

// The packets of a trace: what the kernel's filter passes, and what is read of them.

const ADDRESSES = { 4: ['10.100.5.2', '10.100.43.2'], 6: ['fd42:5::2', 'fd42:43::2'] } as const;
const PACKETS = ([4, 6] as const).flatMap((family) =>
  (['icmp', 'tcp', 'udp'] as const).flatMap((protocol) =>
    [84, 1400].map((size): TracePacket => {
      const [source, destination] = ADDRESSES[family];
      return { family, protocol, tag: 0xfeedf00d, size, source, destination, sourcePort: 40000, port: 80 };
    }),
  ),
);

const nameOf = ({ family, protocol, size }: TracePacket): string => `IPv${family} ${protocol} ${size}`;

/** An IP packet. */
function ip(family: 4 | 6, protocol: number, from: string, to: string, payload: Buffer): Buffer {
  const header = Buffer.alloc(IP_HEADER[family]);
  header.writeUInt8(family === 4 ? 0x45 : 0x60, 0);
  header.writeUInt8(protocol, family === 4 ? 9 : 6);
  header.set(IpAddress.parse(from).toBytes(), family === 4 ? 12 : 8);
  header.set(IpAddress.parse(to).toBytes(), family === 4 ? 16 : 24);
  return Buffer.concat([header, payload]);
}

const UDP = Buffer.alloc(8);
const VXLAN = Buffer.alloc(8 + 14);
const OUTER = { 4: ['192.0.2.11', '192.0.2.12'], 6: ['2001:db8::11', '2001:db8::12'] } as const;
/** As it is on the underlay: whole, by IP in IP, flannel's UDP, and VXLAN of either family. */
const carried = (inner: Buffer): Buffer[] => [
  inner,
  ip(4, 4, ...OUTER[4], inner),
  ip(4, 17, ...OUTER[4], Buffer.concat([UDP, inner])),
  ip(4, 17, ...OUTER[4], Buffer.concat([UDP, VXLAN, inner])),
  ip(6, 17, ...OUTER[6], Buffer.concat([UDP, VXLAN, inner])),
];

/** Runs a filter as the kernel does (net/core/filter.c). */
function passes(program: Buffer, packet: Buffer): boolean {
  let accumulator = 0;
  for (let at = 0; ; at++) {
    const [code, value] = [program.readUInt16LE(8 * at), program.readUInt32LE(8 * at + 4)];
    if (code === 0x06) return value > 0;
    if (code === 0x20) {
      if (value + 4 > packet.length) return false;
      accumulator = packet.readUInt32BE(value);
    } else at += accumulator === value ? program.readUInt8(8 * at + 2) : program.readUInt8(8 * at + 3);
  }
}

test('a probe and its answer are known in every tunnel; other packets are not', (t) => {
  for (const packet of PACKETS) {
    const { family, source, destination, tag } = packet;
    const program = filterProgram(packet);
    const probe = ip(family, protocolNumber(packet), source, destination, encodeProbe(packet));
    for (const bytes of carried(probe)) {
      t.true(passes(program, bytes), nameOf(packet));
      t.like(decodeSeen(bytes, packet), { kind: 'there', source, destination }, nameOf(packet));
    }
    const other = { ...packet, tag: tag - 7 };
    const stranger = ip(family, protocolNumber(other), source, destination, encodeProbe(other));
    for (const bytes of carried(stranger)) t.false(passes(program, bytes), nameOf(packet));
    t.is(decodeSeen(stranger, packet), undefined);
    // What a tunnel carries is not delivered to its end.
    t.is(decodeWhole(carried(probe).at(-1) ?? probe, packet), undefined);
  }
});

/** What answers. */
function answerTo(packet: TracePacket): Buffer {
  const bytes = encodeProbe(packet);
  if (packet.protocol === 'icmp') bytes.writeUInt8(packet.family === 4 ? 0 : 129, 0);
  if (packet.protocol !== 'tcp') return packet.protocol === 'udp' ? encodeAnswer(packet) : bytes;
  bytes.writeUInt32BE(7, 4);
  bytes.writeUInt32BE((packet.tag + 1) >>> 0, 8);
  bytes.writeUInt8(0x12, 13);
  return bytes.subarray(0, 20);
}

test('an answer, a reset, and an ICMP error that quotes a part of the packet', (t) => {
  for (const packet of PACKETS) {
    const { family, source, destination, size, tag } = packet;
    const program = filterProgram(packet);
    const number = protocolNumber(packet);
    for (const bytes of carried(ip(family, number, destination, source, answerTo(packet)))) {
      t.true(passes(program, bytes), nameOf(packet));
      t.like(decodeSeen(bytes, packet), { kind: 'back', refused: false }, nameOf(packet));
    }
    if (packet.protocol === 'tcp') {
      const reset = answerTo(packet);
      reset.writeUInt8(0x14, 13);
      reset.writeUInt32BE((tag + 1 + size - IP_HEADER[family] - 20) >>> 0, 8);
      const bytes = ip(family, number, destination, source, reset);
      t.true(passes(program, bytes));
      t.like(decodeSeen(bytes, packet), { kind: 'back', refused: true }, nameOf(packet));
    }
    const quoted = ip(family, number, source, destination, encodeProbe(packet)).subarray(
      0,
      IP_HEADER[family] + 12,
    );
    const [type, code] = family === 4 ? [3, 4] : [2, 0];
    const error = Buffer.concat([Buffer.from([type, code, 0, 0, 0, 0, 0x05, 0x14]), quoted]);
    const router = family === 4 ? '10.100.5.1' : 'fd42:5::1';
    for (const bytes of carried(ip(family, family === 4 ? 1 : 58, router, source, error))) {
      t.true(passes(program, bytes), nameOf(packet));
      t.like(
        decodeSeen(bytes, packet),
        { kind: 'error', source: router, error: { type, code, mtu: 1300, about: 'there' } },
        nameOf(packet),
      );
    }
  }
});

test('counters of rules of iptables-legacy that drop, and which have risen', (t) => {
  const saved = (dropped: number, policy: number): string =>
    `*filter
:INPUT ACCEPT [9:900]
:FORWARD DROP [${policy}:84]
[4:400] -A INPUT -i lo -j ACCEPT
[${dropped}:84] -A INPUT -p udp -m udp --dport 8472 -j DROP
[2:168] -A FORWARD -p icmp -j REJECT --reject-with icmp-port-unreachable
COMMIT
`;
  const before = parseCounters(saved(1, 0));
  t.deepEqual(
    [...before],
    [
      ['-t filter -P FORWARD DROP', 0],
      ['-t filter -A INPUT -p udp -m udp --dport 8472 -j DROP', 1],
      ['-t filter -A FORWARD -p icmp -j REJECT --reject-with icmp-port-unreachable', 2],
    ],
  );
  t.deepEqual(risenSince(before, parseCounters(saved(3, 0))), [
    '-t filter -A INPUT -p udp -m udp --dport 8472 -j DROP',
  ]);
  t.deepEqual(risenSince(before, parseCounters(saved(1, 2))), ['-t filter -P FORWARD DROP']);
});
