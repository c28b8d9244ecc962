// IP addresses and prefixes as values, for IPv4 and IPv6 alike.
//
// Parsed once at the edge, always valid after that. All address arithmetic in weft is here.
import { Address6 } from 'ip-address';

import { invalidArgument } from './errors.js';

export type Family = 4 | 6;

export const addressBits = (family: Family): number => (family === 4 ? 32 : 128);

const IPV4 = /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.|$)){4}$/;

/** One address, without a prefix length. */
export class IpAddress {
  #text: string | undefined;

  private constructor(
    readonly family: Family,
    readonly value: bigint,
  ) {}

  static of(family: Family, value: bigint): IpAddress {
    return new IpAddress(family, value);
  }

  /** @throws WeftError INVALID_ARGUMENT naming `field` and the text */
  static parse(text: string, field = 'address'): IpAddress {
    const parsed = IpAddress.tryParse(text);
    if (parsed === undefined) {
      throw invalidArgument(
        `${field}: "${text}" is not an IP address`,
        'Write it as 192.0.2.10 or 2001:db8::10.',
      );
    }
    return parsed;
  }

  static tryParse(text: string): IpAddress | undefined {
    if (text.endsWith('.') ? false : IPV4.test(text)) {
      let value = 0;
      for (const part of text.split('.')) value = value * 256 + Number(part);
      return new IpAddress(4, BigInt(value));
    }
    // Zone indexes and embedded prefix lengths are other notations.
    if (!text.includes(':') || text.includes('%') || text.includes('/')) return undefined;
    try {
      return new IpAddress(6, new Address6(text).bigInt());
    } catch {
      return undefined;
    }
  }

  /** Network byte order. */
  static fromBytes(bytes: Uint8Array): IpAddress {
    let value = 0n;
    for (const byte of bytes) value = (value << 8n) | BigInt(byte);
    return new IpAddress(bytes.length === 4 ? 4 : 6, value);
  }

  /** Network byte order: 4 or 16 bytes. */
  toBytes(): Uint8Array {
    const bytes = new Uint8Array(addressBits(this.family) / 8);
    let rest = this.value;
    for (let i = bytes.length - 1; i >= 0; i--) {
      bytes[i] = Number(rest & 0xffn);
      rest >>= 8n;
    }
    return bytes;
  }

  plus(offset: bigint | number): IpAddress {
    return new IpAddress(this.family, this.value + BigInt(offset));
  }

  equals(other: IpAddress): boolean {
    return this.family === other.family && this.value === other.value;
  }

  toJSON(): string {
    return this.toString();
  }

  /** RFC 5952 for IPv6. */
  toString(): string {
    this.#text ??= this.family === 4 ? dotted(this.value) : Address6.fromBigInt(this.value).correctForm();
    return this.#text;
  }
}

/** Fast: every attach and comparison uses it, and the library's conversion goes through hexadecimal text. */
function dotted(value: bigint): string {
  const bits = Number(value);
  return `${bits >>> 24}.${(bits >>> 16) & 255}.${(bits >>> 8) & 255}.${bits & 255}`;
}

/** A prefix: a base address without host bits, and a length. */
export class IpNetwork {
  #text: string | undefined;

  private constructor(
    readonly base: IpAddress,
    readonly length: number,
  ) {}

  /** The prefix of this length that contains the address. */
  static of(address: IpAddress, length: number): IpNetwork {
    const hostBits = BigInt(addressBits(address.family) - length);
    return new IpNetwork(IpAddress.of(address.family, (address.value >> hostBits) << hostBits), length);
  }

  /**
   * Parses `10.100.0.0/16`.
   * @throws WeftError INVALID_ARGUMENT that names `field`; for set host bits it suggests the right base
   */
  static parse(text: string, field = 'subnet'): IpNetwork {
    const { address, network } = parseInterface(text, field);
    if (!network.base.equals(address)) {
      throw invalidArgument(`${field}: "${text}" has host bits set`, `Did you mean ${network.toString()}?`);
    }
    return network;
  }

  static tryParse(text: string): IpNetwork | undefined {
    try {
      return IpNetwork.parse(text);
    } catch {
      return undefined;
    }
  }

  get family(): Family {
    return this.base.family;
  }

  /** The number of its addresses. */
  get size(): bigint {
    return 1n << BigInt(addressBits(this.family) - this.length);
  }

  /** The last address; for IPv4 the broadcast address. */
  get last(): IpAddress {
    return this.base.plus(this.size - 1n);
  }

  contains(other: IpAddress | IpNetwork): boolean {
    const base = other instanceof IpNetwork ? other.base : other;
    const length = other instanceof IpNetwork ? other.length : addressBits(other.family);
    return (
      base.family === this.family &&
      length >= this.length &&
      IpNetwork.of(base, this.length).base.equals(this.base)
    );
  }

  overlaps(other: IpNetwork): boolean {
    return this.contains(other) || other.contains(this);
  }

  equals(other: IpNetwork): boolean {
    return this.length === other.length && this.base.equals(other.base);
  }

  /** The address `offset` after the base. */
  at(offset: bigint | number): IpAddress {
    return this.base.plus(offset);
  }

  toJSON(): string {
    return this.toString();
  }

  toString(): string {
    this.#text ??= `${this.base.toString()}/${this.length}`;
    return this.#text;
  }
}

interface InterfaceAddress {
  address: IpAddress;
  length: number;
  /** The prefix that it is in. */
  network: IpNetwork;
}

/** Cached: every comparison reads the same addresses and routes, and those of IPv6 take long. */
const parsed = new Map<string, InterfaceAddress>();
const MOST_PARSED = 4096;

/** Parses an interface address with a prefix length, whose host bits may be set: `10.100.5.1/24`. */
export function parseInterface(text: string, field = 'address'): InterfaceAddress {
  const known = parsed.get(text);
  if (known !== undefined) return known;
  const [ip, suffix, ...rest] = text.split('/');
  const address = IpAddress.tryParse(ip ?? '');
  const length = suffix !== undefined && /^(?:0|[1-9]\d{0,2})$/.test(suffix) ? Number(suffix) : NaN;
  if (address === undefined || rest.length > 0 || !(length <= addressBits(address.family))) {
    throw invalidArgument(
      `${field}: "${text}" is not an address with a prefix length`,
      'Write it as 10.100.0.0/16 or fd42:100::/48.',
    );
  }
  const found = { address, length, network: IpNetwork.of(address, length) };
  if (parsed.size >= MOST_PARSED) parsed.clear();
  parsed.set(text, found);
  return found;
}

/** Returns the address in lower case with colons. @throws WeftError INVALID_ARGUMENT unless it is a unicast MAC address */
export function parseMac(text: string, field = 'mac'): string {
  const mac = text.toLowerCase().replaceAll('-', ':');
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(mac)) {
    throw invalidArgument(`${field}: "${text}" is not a MAC address`, 'Write it as 02:00:00:00:00:2a.');
  }
  if ((parseInt(mac.slice(0, 2), 16) & 1) === 1 || mac === '00:00:00:00:00:00') {
    throw invalidArgument(
      `${field}: "${text}" is a multicast or empty address`,
      'An interface needs a unicast MAC.',
    );
  }
  return mac;
}

/** The address of an interface address, without its prefix length. @throws WeftError INVALID_ARGUMENT */
export const bareIp = (text: string): string => parseInterface(text).address.toString();
