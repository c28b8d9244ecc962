// Echo requests that are never fragmented, and their round-trip times (RFC 792, RFC 4443 §4).
//
// The kernel timestamps replies on arrival, so reading them late costs no accuracy, and nothing polls in a loop.
import { randomInt } from 'node:crypto';

import { IpAddress, type Family } from '../../core/address.js';
import { checksum } from './internet-checksum.js';
import type { Echo } from './kernel.js';
import {
  AF_INET,
  AF_INET6,
  closeFd,
  openSocket,
  receivedAt,
  receiveFrom,
  sendTo,
  setOption,
  SystemError,
  wallClock,
} from './libc.js';

const IPPROTO_IP = 0;
const IPPROTO_ICMP = 1;
const IPPROTO_IPV6 = 41;
const IPPROTO_ICMPV6 = 58;
const SOL_RAW = 255;
/** Same value in include/uapi/linux/icmp.h and icmpv6.h. */
const FILTER = 1;
// include/uapi/linux/in.h, in6.h: DF is set, and no path MTU that the kernel has learnt stands in the way.
const PMTUDISC_PROBE = 3;
const KINDS = {
  4: {
    domain: AF_INET,
    protocol: IPPROTO_ICMP,
    ...{ request: 8, reply: 0, header: 20 },
    discover: { level: IPPROTO_IP, name: 10 },
  },
  6: {
    domain: AF_INET6,
    protocol: IPPROTO_ICMPV6,
    ...{ request: 128, reply: 129, header: 40 },
    discover: { level: IPPROTO_IPV6, name: 23 },
  },
} as const;
const ICMP_HEADER = 8;
/** Bytes of the ICMP message where no size is asked for. */
const SMALL = 56;
/** What begins the payload of a probe, before its tag. */
const MAGIC = Buffer.from('weft path');
const TAG = { at: ICMP_HEADER + MAGIC.length, bytes: 8 } as const;
/** When replies are read, in milliseconds after the requests. */
const LOOKS = [2, 10, 30, 80, 200, 400];
/** Probes of other nodes that are read at a time, at most. */
const MOST_HEARD = 256;

/** Receivers that are remembered, at most. */
const MOST_TARGETS = 1024;

/** A receiver, with its struct sockaddr. */
interface Target {
  family: Family;
  address: Buffer;
}

interface Question {
  family: Family;
  sent: bigint;
  answer: (rttMs: number) => void;
}

export class Pinger {
  readonly #fds = new Map<Family, number>();
  /** Sockets of their own for what others send: however much that is, no reply is lost. */
  readonly #listeners = new Map<Family, number>();
  /** Pending requests of all calls, by sequence number: any reader of a reply resolves the call that it belongs to. */
  readonly #open = new Map<number, Question>();
  #sequence = 0;
  #closed = false;
  readonly #id = randomInt(0x10000);
  readonly #buffer = Buffer.alloc(2048);
  /** What is sent: zeros, but for its beginning. */
  readonly #packet = Buffer.alloc(0xffff);
  readonly #targets = new Map<string, Target>();

  /** @param inside opens the sockets in another namespace than the node's */
  constructor(private readonly inside: <T>(work: () => T) => T = (work) => work()) {}

  async ping(echoes: readonly Echo[], timeoutMs: number): Promise<(number | undefined)[]> {
    const results = Array.from<number | undefined>({ length: echoes.length });
    const asked = new Set<number>();
    for (const [at, one] of echoes.entries()) {
      const sequence = this.#ask(one, (rttMs) => {
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

  /** See Kernel.heardTags. */
  heardTags(): string[] {
    const tags: string[] = [];
    for (const family of [4, 6] as const) {
      const fd = this.#closed ? undefined : this.#listener(family);
      if (fd === undefined) continue;
      for (let i = 0; i < MOST_HEARD; i++) {
        const length = this.#receive(fd);
        if (length === undefined) break;
        const start = this.#start(family);
        if (length < start + TAG.at + TAG.bytes) continue;
        const message = this.#buffer.subarray(start);
        if (message.subarray(ICMP_HEADER, TAG.at).equals(MAGIC))
          tags.push(message.toString('hex', TAG.at, TAG.at + TAG.bytes));
      }
    }
    return tags;
  }

  /** Undefined where there is no route at all, or its link has a smaller MTU: treated as no reply. */
  #ask(one: Echo, answer: (rttMs: number) => void): number | undefined {
    const target = this.#target(one.ip);
    if (target === undefined || this.#closed) return undefined;
    const { family } = target;
    this.#sequence = (this.#sequence + 1) & 0xffff;
    const sequence = this.#sequence;
    try {
      const fd = this.#socket(family);
      const packet = echo(this.#packet, family, this.#id, sequence, one);
      const sent = wallClock();
      sendTo(fd, packet, target.address);
      this.#open.set(sequence, { family, sent, answer });
      return sequence;
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      return undefined;
    }
  }

  /** The same few are asked again and again. Undefined: it is no address. */
  #target(ip: string): Target | undefined {
    const known = this.#targets.get(ip);
    if (known !== undefined) return known;
    const parsed = IpAddress.tryParse(ip);
    const target = parsed && { family: parsed.family, address: socketAddress(parsed) };
    if (this.#targets.size >= MOST_TARGETS) this.#targets.clear();
    if (target !== undefined) this.#targets.set(ip, target);
    return target;
  }

  #collect(): void {
    for (const [family, fd] of this.#fds) {
      for (let length = this.#receive(fd); length !== undefined; length = this.#receive(fd)) {
        const start = this.#start(family);
        if (length < start + ICMP_HEADER || this.#buffer.readUInt8(start) !== KINDS[family].reply) continue;
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

  /** A raw IPv4 socket returns the IP header, too. */
  #start(family: Family): number {
    return family === 4 ? (this.#buffer.readUInt8(0) & 0x0f) * 4 : 0;
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
    const { reply, discover } = KINDS[family];
    const fd = this.inside(() =>
      openFiltered(family, reply, (fd) => {
        setOption(fd, discover.level, discover.name, PMTUDISC_PROBE);
        // The first call enables timestamps.
        receivedAt(fd);
      }),
    );
    this.#fds.set(family, fd);
    return fd;
  }

  /** Undefined where the kernel has no IPv6. */
  #listener(family: Family): number | undefined {
    const known = this.#listeners.get(family);
    if (known !== undefined) return known;
    try {
      const fd = openFiltered(family, KINDS[family].request);
      this.#listeners.set(family, fd);
      return fd;
    } catch {
      return undefined;
    }
  }

  close(): void {
    this.#closed = true;
    for (const fd of [...this.#fds.values(), ...this.#listeners.values()]) closeFd(fd);
    this.#fds.clear();
    this.#listeners.clear();
  }
}

/** A socket that gets one type of message: a set bit of the kernel's filter drops a type, of 32 types or of all 256. */
function openFiltered(family: Family, type: number, prepare: (fd: number) => void = () => undefined): number {
  const { domain, protocol } = KINDS[family];
  const fd = openSocket(domain, protocol);
  try {
    const filter = Buffer.alloc(family === 4 ? 4 : 32, 0xff);
    filter.writeUInt8(0xff & ~(1 << (type & 7)), type >> 3);
    setOption(fd, family === 4 ? SOL_RAW : IPPROTO_ICMPV6, FILTER, filter);
    prepare(fd);
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

/** struct sockaddr_in, struct sockaddr_in6. */
function socketAddress(ip: IpAddress): Buffer {
  const bytes = Buffer.alloc(ip.family === 4 ? 16 : 28);
  bytes.writeUInt16LE(KINDS[ip.family].domain, 0);
  bytes.set(ip.toBytes(), ip.family === 4 ? 4 : 8);
  return bytes;
}

/** Writes an echo request to the beginning of a buffer that is zeros beyond that. @returns the request */
function echo(buffer: Buffer, family: Family, id: number, sequence: number, { size = 0, tag }: Echo): Buffer {
  const bytes = buffer.subarray(0, Math.max(SMALL, size - KINDS[family].header));
  const written = bytes.subarray(0, SMALL).fill(0);
  written.writeUInt8(KINDS[family].request, 0);
  written.writeUInt16BE(id, 4);
  written.writeUInt16BE(sequence, 6);
  if (tag !== undefined) {
    written.set(MAGIC, ICMP_HEADER);
    written.write(tag, TAG.at, TAG.bytes, 'hex');
  }
  // For IPv6 the kernel computes it: it covers addresses that are not known here (RFC 3542 §3.1). Zeros add nothing.
  if (family === 4) written.writeUInt16BE(checksum(written), 2);
  return bytes;
}
