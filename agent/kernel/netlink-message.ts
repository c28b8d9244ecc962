// Netlink encoding: messages, fixed headers, attributes (RFC 3549).
//
// See include/uapi/linux/netlink.h and rtnetlink.h. All netlink bytes are written and read here. Host byte order, which is
// little-endian on every platform of Node.js.
import { IpAddress } from '../../core/address.js';

export const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  GETLINK: 18,
  SETLINK: 19,
  NEWADDR: 20,
  DELADDR: 21,
  GETADDR: 22,
  NEWROUTE: 24,
  DELROUTE: 25,
  GETROUTE: 26,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  GETNEIGH: 30,
  NEWRULE: 32,
  DELRULE: 33,
  GETRULE: 34,
  GETNEIGHTBL: 66,
  NEWNETCONF: 80,
} as const;

export const NLM_F = {
  REQUEST: 0x1,
  ACK: 0x4,
  ECHO: 0x8,
  DUMP: 0x300,
  REPLACE: 0x100,
  EXCL: 0x200,
  CREATE: 0x400,
} as const;

const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLM_F_DUMP_INTR = 0x10;
const HEADER = 16;
/** Set on an attribute that holds attributes; the other of the two upper bits marks byte order. */
const NESTED = 0x8000;
const TYPE_MASK = 0x3fff;

const align = (length: number): number => (length + 3) & ~3;

/** One attribute. From the pool, as all small buffers here, of which every byte is written: an attach needs hundreds. */
export function attr(type: number, payload: Uint8Array): Buffer {
  const length = 4 + payload.length;
  const bytes = Buffer.allocUnsafe(align(length));
  bytes.writeUInt16LE(length, 0);
  bytes.writeUInt16LE(type, 2);
  bytes.set(payload, 4);
  for (let at = length; at < bytes.length; at++) bytes[at] = 0;
  return bytes;
}

export const nested = (type: number, ...parts: Buffer[]): Buffer => attr(type | NESTED, Buffer.concat(parts));

export const u8Attr = (type: number, value: number): Buffer => attr(type, Uint8Array.of(value));

export function u16Attr(type: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(2);
  bytes.writeUInt16LE(value);
  return attr(type, bytes);
}

export function u32Attr(type: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32LE(value);
  return attr(type, bytes);
}

/** Network byte order, as in ports. */
export const be16Attr = (type: number, value: number): Buffer =>
  attr(type, Uint8Array.of(value >> 8, value & 0xff));

/** Network byte order, as in nf_tables. */
export function be32Attr(type: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4);
  bytes.writeUInt32BE(value);
  return attr(type, bytes);
}

export const textAttr = (type: number, text: string): Buffer => attr(type, Buffer.from(`${text}\0`));

export const macAttr = (type: number, mac: string): Buffer =>
  attr(type, Buffer.from(mac.replaceAll(':', ''), 'hex'));

export const ipAttr = (type: number, ip: string): Buffer => attr(type, IpAddress.parse(ip).toBytes());

/** A fixed header: pairs of size in bytes and value. */
export function fixed(...fields: readonly (readonly [size: 1 | 2 | 4, value: number])[]): Buffer {
  const bytes = Buffer.allocUnsafe(fields.reduce((sum, [size]) => sum + size, 0));
  let at = 0;
  for (const [size, value] of fields) {
    bytes.writeUIntLE(value, at, size);
    at += size;
  }
  return bytes;
}

export interface Request {
  type: number;
  flags: number;
  body: Buffer;
  /** An error of this request is ignored. */
  optional?: true;
}

/** An encoded message. */
export function encodeRequest({ type, flags, body }: Request, sequence: number): Buffer {
  const length = HEADER + body.length;
  const bytes = Buffer.allocUnsafe(align(length));
  bytes.writeUInt32LE(length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(flags | NLM_F.REQUEST, 6);
  bytes.writeUInt32LE(sequence, 8);
  bytes.writeUInt32LE(0, 12);
  bytes.set(body, HEADER);
  for (let at = length; at < bytes.length; at++) bytes[at] = 0;
  return bytes;
}

export interface Message {
  type: number;
  sequence: number;
  body: Buffer;
}

export type Incoming =
  | ({ kind: 'message'; interrupted: boolean } & Message)
  | { kind: 'done'; sequence: number; interrupted: boolean; errno: number }
  /** errno 0 is an acknowledgement. */
  | { kind: 'error'; sequence: number; errno: number; text: string | undefined };

/** All messages of one read. */
export function* decodeMessages(bytes: Buffer): Iterable<Incoming> {
  for (let at = 0; at + HEADER <= bytes.length;) {
    const length = bytes.readUInt32LE(at);
    if (length < HEADER || at + length > bytes.length) return;
    const type = bytes.readUInt16LE(at + 4);
    const flags = bytes.readUInt16LE(at + 6);
    const sequence = bytes.readUInt32LE(at + 8);
    const body = bytes.subarray(at + HEADER, at + length);
    if (type === NLMSG_ERROR)
      yield { kind: 'error', sequence, errno: -body.readInt32LE(0), text: errorText(body, flags) };
    else {
      const interrupted = (flags & NLM_F_DUMP_INTR) !== 0;
      if (type !== NLMSG_DONE) yield { kind: 'message', type, sequence, body, interrupted };
      else yield { kind: 'done', sequence, interrupted, errno: body.length < 4 ? 0 : -body.readInt32LE(0) };
    }
    at += align(length);
  }
}

const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;

/** The kernel's extended error, which follows the errno and the header (or the whole) of the request. */
function errorText(body: Buffer, flags: number): string | undefined {
  if ((flags & NLM_F_ACK_TLVS) === 0) return undefined;
  const request = (flags & NLM_F_CAPPED) === 0 ? align(body.readUInt32LE(4)) : HEADER;
  const text = decodeAttrs(body, 4 + request).get(NLMSGERR_ATTR_MSG);
  return text === undefined ? undefined : readText(text);
}

export type Attrs = ReadonlyMap<number, Buffer>;

/** A set of attribute types, all below 32. */
export const attrSet = (types: readonly number[]): number =>
  types.reduce((bits, type) => bits | (1 << type), 0);

/**
 * Attributes by type; of a repeated one the last counts.
 * @param wanted only these, an attrSet: most of the fifty attributes of a link are not used here
 */
export function decodeAttrs(bytes: Buffer, from = 0, wanted?: number): Attrs {
  const attrs = new Map<number, Buffer>();
  for (let at = from; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) break;
    const type = bytes.readUInt16LE(at + 2) & TYPE_MASK;
    if (wanted === undefined || (type < 32 && ((wanted >>> type) & 1) === 1))
      attrs.set(type, bytes.subarray(at + 4, at + length));
    at += align(length);
  }
  return attrs;
}

/** The payloads of an array of attributes, whatever their types. */
export function* decodeAttrList(bytes: Buffer = Buffer.alloc(0)): Iterable<Buffer> {
  for (let at = 0; at + 4 <= bytes.length;) {
    const length = bytes.readUInt16LE(at);
    if (length < 4 || at + length > bytes.length) return;
    yield bytes.subarray(at + 4, at + length);
    at += align(length);
  }
}

export function readText(bytes: Buffer): string {
  const end = bytes.indexOf(0);
  return bytes.toString('utf8', 0, end < 0 ? bytes.length : end);
}

export const readMac = (bytes: Buffer): string => bytes.toString('hex').replace(/..(?!$)/g, '$&:');

/** Cached: link-local prefixes exist on every link, and every comparison reads the same addresses. */
const seen = new Map<string, string>();
const MOST_SEEN = 4096;

export function readIp(bytes: Buffer): string {
  const key = bytes.toString('latin1');
  const known = seen.get(key);
  if (known !== undefined) return known;
  const text = IpAddress.fromBytes(bytes).toString();
  if (seen.size >= MOST_SEEN) seen.clear();
  seen.set(key, text);
  return text;
}
