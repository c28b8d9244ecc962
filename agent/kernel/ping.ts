// Round-trip times by ICMP echo (RFC 792, RFC 4443 §4).
//
// The kernel timestamps replies on arrival, so reading them late costs no accuracy, and nothing polls in a loop.
import { randomInt } from 'node:crypto';

import { IpAddress, type Family } from '../../core/address.js';
import { checksum } from './internet-checksum.js';
import {
  AF_INET,
  AF_INET6,
  closeFd,
  openSocket,
  receivedAt,
  receiveFrom,
  sendTo,
  setOption,
  wallClock,
} from './libc.js';

const IPPROTO_ICMP = 1;
const IPPROTO_ICMPV6 = 58;
const SOL_RAW = 255;
/** Same value in include/uapi/linux/icmp.h and icmpv6.h. */
const FILTER = 1;
const KINDS = {
  4: { domain: AF_INET, protocol: IPPROTO_ICMP, request: 8, reply: 0 },
  6: { domain: AF_INET6, protocol: IPPROTO_ICMPV6, request: 128, reply: 129 },
} as const;
const PACKET = 56;
/** When replies are read, in milliseconds after the requests. */
const LOOKS = [2, 10, 30, 80, 200, 400];

interface Question {
  family: Family;
  sent: bigint;
  answer: (rttMs: number) => void;
}

export class Pinger {
  readonly #fds = new Map<Family, number>();
  /** Pending requests of all calls, by sequence number: any reader of a reply resolves the call that it belongs to. */
  readonly #open = new Map<number, Question>();
  #sequence = 0;
  #closed = false;
  readonly #id = randomInt(0x10000);
  readonly #buffer = Buffer.alloc(2048);

  async ping(ips: readonly string[], timeoutMs: number): Promise<(number | undefined)[]> {
    const results = Array.from<number | undefined>({ length: ips.length });
    const asked = new Set<number>();
    for (const [at, ip] of ips.entries()) {
      const sequence = this.#ask(ip, (rttMs) => {
        results[at] = rttMs;
        asked.delete(sequence ?? -1);
      });
      if (sequence !== undefined) asked.add(sequence);
    }
    let waited = 0;
    for (const look of [...LOOKS.filter((ms) => ms < timeoutMs), timeoutMs]) {
      if (asked.size === 0 || this.#closed) break;
      const pause = look - waited;
      waited = look;
      await new Promise((resolve) => setTimeout(resolve, pause));
      this.#collect();
    }
    for (const sequence of asked) this.#open.delete(sequence);
    return results;
  }

  /** Undefined where there is no route at all: treated as no reply. */
  #ask(ip: string, answer: (rttMs: number) => void): number | undefined {
    const target = IpAddress.tryParse(ip);
    if (target === undefined || this.#closed) return undefined;
    const { family } = target;
    this.#sequence = (this.#sequence + 1) & 0xffff;
    const sequence = this.#sequence;
    try {
      const fd = this.#socket(family);
      const packet = echo(family, this.#id, sequence);
      const sent = wallClock();
      sendTo(fd, packet, socketAddress(target));
      this.#open.set(sequence, { family, sent, answer });
      return sequence;
    } catch {
      return undefined;
    }
  }

  #collect(): void {
    for (const [family, fd] of this.#fds) {
      for (let length = this.#receive(fd); length !== undefined; length = this.#receive(fd)) {
        // A raw IPv4 socket returns the IP header, too.
        const start = family === 4 ? (this.#buffer.readUInt8(0) & 0x0f) * 4 : 0;
        if (length < start + 8 || this.#buffer.readUInt8(start) !== KINDS[family].reply) continue;
        if (this.#buffer.readUInt16BE(start + 4) !== this.#id) continue;
        const sequence = this.#buffer.readUInt16BE(start + 6);
        const question = this.#open.get(sequence);
        if (question?.family !== family) continue;
        this.#open.delete(sequence);
        const received = receivedAt(fd) ?? wallClock();
        question.answer(Math.max(0, Number(received - question.sent) / 1e6));
      }
    }
  }

  /** A pending socket error (an unreachable network) says nothing about the other replies. */
  #receive(fd: number): number | undefined {
    try {
      return receiveFrom(fd, this.#buffer);
    } catch {
      return undefined;
    }
  }

  #socket(family: Family): number {
    const known = this.#fds.get(family);
    if (known !== undefined) return known;
    const { domain, protocol, reply } = KINDS[family];
    const fd = openSocket(domain, protocol);
    try {
      // Filters out everything but echo replies in the kernel: a set bit drops a type, of 32 types or of all 256.
      const filter = Buffer.alloc(family === 4 ? 4 : 32, 0xff);
      filter.writeUInt8(0xff & ~(1 << (reply & 7)), reply >> 3);
      setOption(fd, family === 4 ? SOL_RAW : IPPROTO_ICMPV6, FILTER, filter);
      // The first call enables timestamps.
      receivedAt(fd);
    } catch (error) {
      closeFd(fd);
      throw error;
    }
    this.#fds.set(family, fd);
    return fd;
  }

  close(): void {
    this.#closed = true;
    for (const fd of this.#fds.values()) closeFd(fd);
    this.#fds.clear();
  }
}

/** struct sockaddr_in, struct sockaddr_in6. */
function socketAddress(ip: IpAddress): Buffer {
  const bytes = Buffer.alloc(ip.family === 4 ? 16 : 28);
  bytes.writeUInt16LE(KINDS[ip.family].domain, 0);
  bytes.set(ip.toBytes(), ip.family === 4 ? 4 : 8);
  return bytes;
}

function echo(family: Family, id: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(PACKET);
  bytes.writeUInt8(KINDS[family].request, 0);
  bytes.writeUInt16BE(id, 4);
  bytes.writeUInt16BE(sequence, 6);
  // For IPv6 the kernel computes it: it covers addresses that are not known here (RFC 3542 §3.1).
  if (family === 4) bytes.writeUInt16BE(checksum(bytes), 2);
  return bytes;
}
