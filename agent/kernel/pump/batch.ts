// A batch of datagrams in memory, as sendmmsg and recvmmsg take it (struct mmsghdr of 64-bit Linux, little-endian).
import { addressOf, AF_INET } from '../libc.js';

/** How many datagrams one call carries. */
export const BATCH = 64;
/**
 * Bytes of a packet: as many as any has, whatever the links' MTU; the kernel gives pages to those that are used. No multiple of a
 * page: packets would displace each other from the processor's cache.
 */
export const SLOT = 65_600;

const MESSAGE = 64;
const IOVEC = 16;
const NAME = 16;
/** Offsets in a struct mmsghdr. */
const AT = { name: 0, nameLength: 8, iovec: 16, iovecs: 24, length: 56 } as const;

export class Batch {
  readonly bytes = Buffer.alloc(BATCH * SLOT);
  readonly #messages = Buffer.alloc(BATCH * MESSAGE);
  readonly #iovecs = Buffer.alloc(BATCH * IOVEC);
  readonly #names = Buffer.alloc(BATCH * NAME);
  readonly #words = new Uint32Array(this.#messages.buffer, this.#messages.byteOffset, (BATCH * MESSAGE) / 4);
  readonly #lengths = new Uint32Array(this.#iovecs.buffer, this.#iovecs.byteOffset, (BATCH * IOVEC) / 4);
  readonly #start = addressOf(this.bytes);
  readonly #first = addressOf(this.#messages);

  constructor(port: number) {
    const iovecs = addressOf(this.#iovecs);
    const names = addressOf(this.#names);
    for (let i = 0; i < BATCH; i++) {
      const message = i * MESSAGE;
      this.#messages.writeBigUInt64LE(BigInt(names + i * NAME), message + AT.name);
      this.#messages.writeUInt32LE(NAME, message + AT.nameLength);
      this.#messages.writeBigUInt64LE(BigInt(iovecs + i * IOVEC), message + AT.iovec);
      this.#messages.writeBigUInt64LE(1n, message + AT.iovecs);
      this.#iovecs.writeBigUInt64LE(BigInt(this.address(i)), i * IOVEC);
      this.setLength(i, SLOT);
      this.#names.writeUInt16LE(AF_INET, i * NAME);
      this.#names.writeUInt16BE(port, i * NAME + 2);
    }
  }

  /** Of the packet. */
  address(i: number): number {
    return this.#start + i * SLOT;
  }

  /** Of the messages from this one on. */
  messages(i: number): number {
    return this.#first + i * MESSAGE;
  }

  /** Bytes that are sent, or room for those that are received. */
  setLength(i: number, length: number): void {
    this.#lengths[i * 4 + 2] = length;
  }

  /** Bytes that were received. */
  received(i: number): number {
    return this.#words[(i * MESSAGE + AT.length) / 4] ?? 0;
  }

  /** The IPv4 address at the other end, as a number. */
  peer(i: number): number {
    return this.#names.readUInt32BE(i * NAME + 4);
  }

  setPeer(i: number, ip: number): void {
    this.#names.writeUInt32BE(ip, i * NAME + 4);
  }
}
