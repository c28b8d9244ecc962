// DNS messages: parses queries and builds answers.
//
// dns-packet decodes messages and encodes records. This file does what it leaves to its caller: which messages deserve an
// answer, the question echoed byte for byte (its case is part of it, draft-vixie-dnsext-dns0x20), name compression, and
// truncation to the size that the client accepts.
import { decode, encode, type Answer, type OptAnswer } from 'dns-packet';

import type { IpAddress } from '../../core/address.js';
import { DOMAIN } from './resolv-conf.js';

// RFC 1035 §4.1.1, RFC 6895 §2.3.
export const RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  /** Extended (RFC 6891 §6.1.3): its upper bits are in the OPT record. */
  BADVERS: 16,
} as const;
export type Rcode = (typeof RCODE)[keyof typeof RCODE];

export const TYPE = {
  A: 1,
  NS: 2,
  SOA: 6,
  PTR: 12,
  AAAA: 28,
  OPT: 41,
  IXFR: 251,
  AXFR: 252,
  ANY: 255,
} as const;
const CLASS_IN = 1;
const CLASS_ANY = 255;

export const HEADER_BYTES = 12;
/** RFC 1035 §4.2.1: what every client accepts over UDP. */
const PLAIN_UDP_BYTES = 512;
/** Passes every path without fragmentation (DNS flag day 2020); larger answers go over TCP. */
export const EDNS_UDP_BYTES = 1232;
/** Length prefix of a message over TCP (RFC 1035 §4.2.2). */
export const MAX_TCP_BYTES = 65_535;

const FLAG = { qr: 0x8000, aa: 0x0400, tc: 0x0200, rd: 0x0100, ra: 0x0080, cd: 0x0010 };

/** A query that can be answered. */
export interface Question {
  id: number;
  /** RD and CD (recursion desired, checking disabled) are copied into the answer. */
  flags: number;
  /** Name, type and class as received. */
  bytes: Buffer;
  /**
   * In lower case, without the trailing dot; '' is the root. A label with bytes that are invalid in weft's names is escaped, so
   * that it matches none of them.
   */
  name: string;
  type: number;
  /** The client's EDNS parameters. */
  edns?: { udpBytes: number; dnssecOk: boolean };
}

export type Received =
  | { kind: 'question'; question: Question }
  /** Answered with an error code. */
  | { kind: 'refused'; rcode: Rcode; response: Buffer }
  /** Not answered: it is a response itself, or no DNS message. */
  | { kind: 'ignored' };

const IGNORED: Received = { kind: 'ignored' };

/** Never throws, for any bytes. */
export function receive(message: Buffer): Received {
  if (message.length < HEADER_BYTES) return IGNORED;
  const flags = message.readUInt16BE(2);
  // Responses to responses would loop between two servers for ever.
  if ((flags & FLAG.qr) !== 0) return IGNORED;
  const refuse = (rcode: Rcode, question?: Buffer, edns = false): Received => ({
    kind: 'refused',
    rcode,
    response: assemble({ id: message.readUInt16BE(0), flags, bytes: question, edns, rcode }),
  });
  if (((flags >> 11) & 0xf) !== 0) return refuse(RCODE.NOTIMP);
  const [questions, answers, authorities, additionals] = [4, 6, 8, 10].map((at) =>
    message.readUInt16BE(at),
  ) as [number, number, number, number];
  // Counted before anything is decoded: a message with a thousand questions costs no more than one. Additional records are OPT
  // and a signature (TSIG, SIG(0)); a query has no others.
  if (questions !== 1 || answers > 0 || authorities > 0 || additionals > 2) return refuse(RCODE.FORMERR);
  const end = endOfQuestion(message);
  if (end === undefined) return refuse(RCODE.FORMERR);
  const bytes = message.subarray(HEADER_BYTES, end);
  const opts = optsOf(message);
  if (opts === undefined || opts.length > 1) return refuse(RCODE.FORMERR, bytes);
  const [opt] = opts;
  if (opt !== undefined && opt.ednsVersion > 0) return refuse(RCODE.BADVERS, bytes, true);
  const type = message.readUInt16BE(end - 4);
  const klass = message.readUInt16BE(end - 2);
  const edns = opt && { udpBytes: Math.max(opt.udpPayloadSize, PLAIN_UDP_BYTES), dnssecOk: opt.flag_do };
  if (klass !== CLASS_IN && klass !== CLASS_ANY) return refuse(RCODE.REFUSED, bytes, opt !== undefined);
  // Zone transfers are refused here, and OPT is not a query type.
  if (type === TYPE.AXFR || type === TYPE.IXFR) return refuse(RCODE.REFUSED, bytes, opt !== undefined);
  if (type === TYPE.OPT || type === 0) return refuse(RCODE.FORMERR, bytes, opt !== undefined);
  return {
    kind: 'question',
    question: {
      id: message.readUInt16BE(0),
      flags,
      bytes,
      name: nameOf(bytes),
      type,
      ...(edns === undefined ? {} : { edns }),
    },
  };
}

/** Undefined where the message cannot be read. */
function optsOf(message: Buffer): OptAnswer[] | undefined {
  try {
    const { additionals = [] } = decode(message);
    return additionals.filter((one): one is OptAnswer => one.type === 'OPT');
  } catch {
    return undefined;
  }
}

/**
 * End of the only question. Undefined where it is truncated, or its name is too long or has a pointer: no earlier name exists
 * that a pointer could refer to.
 */
export function endOfQuestion(message: Buffer): number | undefined {
  let at = HEADER_BYTES;
  for (;;) {
    const length = message[at];
    if (length === undefined || length > 63) return undefined;
    at += 1 + length;
    // RFC 1035 §2.3.4.
    if (at - HEADER_BYTES > 255) return undefined;
    if (length === 0) break;
  }
  return at + 4 <= message.length ? at + 4 : undefined;
}

function nameOf(question: Buffer): string {
  const labels: string[] = [];
  for (let at = 0; ;) {
    const length = question[at] ?? 0;
    if (length === 0) return labels.join('.');
    const label = question.toString('latin1', at + 1, at + 1 + length).toLowerCase();
    // Escaped as in RFC 1035 §5.1.
    labels.push(/^[a-z0-9_-]+$/.test(label) ? label : label.replaceAll(/[^a-z0-9_-]/g, '\\$&'));
    at += 1 + length;
  }
}

/** The question with its name in lower case: equal for equal questions. */
export function canonicalQuestion(bytes: Buffer): Buffer {
  const lower = Buffer.from(bytes);
  // Length bytes are at most 63, so they are no letters.
  for (let at = 0; at < lower.length - 4; at++) {
    const byte = lower[at] ?? 0;
    if (byte >= 0x41 && byte <= 0x5a) lower[at] = byte | 0x20;
  }
  return lower;
}

// The owner of every answer is the question's name, directly after the header.
const OWNER = Buffer.from([0xc0, HEADER_BYTES]);

/** 0: containers come and go, and a name must not outlive them in any cache. */
const TTL = 0;

function encoded(data: Answer, owner?: Buffer): Buffer {
  const bytes = encode({ answers: [data] }).subarray(HEADER_BYTES);
  return owner === undefined ? bytes : Buffer.concat([owner, bytes.subarray(1)]);
}

// An owner of '.' is one byte, which the pointer replaces.
const addressRecords = new WeakMap<IpAddress, Buffer>();

export function addressRecord(ip: IpAddress): Buffer {
  let record = addressRecords.get(ip);
  if (record === undefined) {
    record = encoded(
      { type: ip.family === 4 ? 'A' : 'AAAA', name: '.', ttl: TTL, data: ip.toString() },
      OWNER,
    );
    addressRecords.set(ip, record);
  }
  return record;
}
export const pointerRecord = (name: string): Buffer =>
  encoded({ type: 'PTR', name: '.', ttl: TTL, data: name }, OWNER);

/** Part of every negative answer in weft's domain, so that it is not cached (RFC 2308 §5: the SOA's minimum is the limit). */
export const AUTHORITY = encoded({
  type: 'SOA',
  name: DOMAIN,
  ttl: TTL,
  data: {
    mname: `ns.${DOMAIN}`,
    rname: `hostmaster.${DOMAIN}`,
    serial: 1,
    refresh: 3600,
    retry: 600,
    expire: 86_400,
    minimum: 0,
  },
});

const optRecord = (extendedRcode: number): Buffer =>
  encoded({
    type: 'OPT',
    name: '.',
    udpPayloadSize: EDNS_UDP_BYTES,
    extendedRcode,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options: [],
  });

interface Assembly {
  id: number;
  flags: number;
  bytes: Buffer | undefined;
  edns: boolean;
  rcode: Rcode;
  answers?: readonly Buffer[];
  authority?: Buffer;
  authoritative?: boolean;
  truncated?: boolean;
}

function assemble(parts: Assembly): Buffer {
  const { id, flags, bytes, edns, rcode, answers = [], authority, authoritative, truncated } = parts;
  const header = Buffer.alloc(HEADER_BYTES);
  const copied = flags & (0x7800 | FLAG.rd | FLAG.cd);
  const own = FLAG.qr | FLAG.ra | (authoritative === true ? FLAG.aa : 0) | (truncated === true ? FLAG.tc : 0);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(copied | own | (rcode & 0xf), 2);
  header.writeUInt16BE(bytes === undefined ? 0 : 1, 4);
  header.writeUInt16BE(answers.length, 6);
  header.writeUInt16BE(authority === undefined ? 0 : 1, 8);
  header.writeUInt16BE(edns ? 1 : 0, 10);
  return Buffer.concat([
    header,
    ...(bytes === undefined ? [] : [bytes]),
    ...answers,
    ...(authority === undefined ? [] : [authority]),
    ...(edns ? [optRecord(rcode >> 4)] : []),
  ]);
}

export type Transport = 'udp' | 'tcp';

/** The maximum size of an answer to this query, in bytes. */
export function limitOf({ edns }: Question, transport: Transport): number {
  if (transport === 'tcp') return MAX_TCP_BYTES;
  return Math.min(edns?.udpBytes ?? PLAIN_UDP_BYTES, EDNS_UDP_BYTES);
}

export interface OwnAnswer {
  rcode: Rcode;
  answers: readonly Buffer[];
  /** In weft's own domain. */
  inDomain: boolean;
}

/**
 * weft's own answer. If not all addresses fit, it has as many as fit and the TC bit: a client that supports TCP asks again,
 * and one that does not (musl before 1.2.4) has some.
 */
export function respond(question: Question, answer: OwnAnswer, transport: Transport): Buffer {
  const { id, flags, bytes, edns } = question;
  const authority = answer.inDomain && answer.answers.length === 0 ? AUTHORITY : undefined;
  let room =
    limitOf(question, transport) -
    HEADER_BYTES -
    bytes.length -
    (edns === undefined ? 0 : optRecord(0).length);
  const fitting: Buffer[] = [];
  for (const one of answer.answers) {
    if (one.length > room) break;
    room -= one.length;
    fitting.push(one);
  }
  return assemble({
    ...{ id, flags, bytes, edns: edns !== undefined, rcode: answer.rcode, answers: fitting },
    ...(authority === undefined ? {} : { authority }),
    authoritative: answer.rcode === RCODE.NOERROR || answer.inDomain,
    truncated: fitting.length < answer.answers.length && transport === 'udp',
  });
}

/** An answer with only a code: SERVFAIL, REFUSED. */
export function refusal({ id, flags, bytes, edns }: Question, rcode: Rcode): Buffer {
  return assemble({ id, flags, bytes, edns: edns !== undefined, rcode });
}

export const rcodeOf = (response: Buffer): number => (response[3] ?? 0) & 0xf;
export const isTruncated = (response: Buffer): boolean => ((response[2] ?? 0) & 0x02) !== 0;
