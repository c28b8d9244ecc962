// Responses of upstream servers: validated, cached and handed on.
//
// They are parsed only to check that they are complete, how long they may be cached and where their TTLs are. They are handed
// on byte for byte, whatever their record types.
import {
  canonicalQuestion,
  endOfQuestion,
  HEADER_BYTES,
  isTruncated,
  limitOf,
  rcodeOf,
  RCODE,
  TYPE,
  type Question,
  type Transport,
} from './message.js';

export interface Response {
  /** With the id and the spelling of the query that was sent. */
  bytes: Buffer;
  /** How long it may be cached, in seconds; 0: not at all. */
  keepSeconds: number;
  /** Offsets of the TTLs. */
  ttls: readonly number[];
}

/** Long enough to help, short enough that a corrected mistake disappears soon. */
const MAX_KEEP_SECONDS = 3600;
/** RFC 2308 §5 allows hours; a name that was just created must not be missing for so long. */
const MAX_KEEP_NEGATIVE_SECONDS = 60;

interface Record {
  type: number;
  ttlAt: number;
  ttl: number;
  dataAt: number;
  end: number;
}

/** Undefined unless it is a complete response to this query: names and counts are checked, pointers never followed. */
export function readResponse(bytes: Buffer, id: number, question: Buffer): Response | undefined {
  if (bytes.length < HEADER_BYTES || bytes.readUInt16BE(0) !== id) return undefined;
  const flags = bytes.readUInt16BE(2);
  // A response, to a standard query.
  if ((flags & 0xf800) !== 0x8000) return undefined;
  const questions = bytes.readUInt16BE(4);
  let at = HEADER_BYTES;
  if (questions === 1) {
    const end = endOfQuestion(bytes);
    if (end === undefined || !canonicalQuestion(bytes.subarray(HEADER_BYTES, end)).equals(question))
      return undefined;
    at = end;
  } else if (questions !== 0 || rcodeOf(bytes) === RCODE.NOERROR || rcodeOf(bytes) === RCODE.NXDOMAIN) {
    // Without its question a response proves nothing; a REFUSED may be that short.
    return undefined;
  }
  const sections = [6, 8, 10].map((where) => bytes.readUInt16BE(where));
  const records: Record[][] = [];
  for (const count of sections) {
    const section: Record[] = [];
    for (let i = 0; i < count; i++) {
      const record = recordAt(bytes, at);
      // A response with the TC bit may end early: the client asks again over TCP.
      if (record === undefined) return isTruncated(bytes) ? { bytes, keepSeconds: 0, ttls: [] } : undefined;
      section.push(record);
      at = record.end;
    }
    records.push(section);
  }
  return { bytes, keepSeconds: keepSeconds(bytes, records), ttls: ttlsOf(records.flat()) };
}

function recordAt(bytes: Buffer, start: number): Record | undefined {
  const nameEnd = endOfName(bytes, start);
  if (nameEnd === undefined || nameEnd + 10 > bytes.length) return undefined;
  const dataAt = nameEnd + 10;
  const end = dataAt + bytes.readUInt16BE(nameEnd + 8);
  if (end > bytes.length) return undefined;
  return {
    type: bytes.readUInt16BE(nameEnd),
    ttlAt: nameEnd + 4,
    ttl: bytes.readUInt32BE(nameEnd + 4),
    dataAt,
    end,
  };
}

function endOfName(bytes: Buffer, start: number): number | undefined {
  for (let at = start; ;) {
    const length = bytes[at];
    if (length === undefined) return undefined;
    if (length === 0) return at + 1;
    // A pointer ends a name (RFC 1035 §4.1.4).
    if (length >= 0xc0) return at + 2;
    if (length > 63) return undefined;
    at += 1 + length;
  }
}

// OPT has flags in place of the TTL (RFC 6891 §6.1.3).
const ttlsOf = (records: readonly Record[]): number[] =>
  records.filter(({ type }) => type !== TYPE.OPT).map(({ ttlAt }) => ttlAt);

function keepSeconds(bytes: Buffer, [answers = [], authorities = []]: readonly Record[][]): number {
  const rcode = rcodeOf(bytes);
  if (isTruncated(bytes) || (rcode !== RCODE.NOERROR && rcode !== RCODE.NXDOMAIN)) return 0;
  if (rcode === RCODE.NOERROR && answers.length > 0) {
    return Math.min(MAX_KEEP_SECONDS, ...answers.map(({ ttl }) => seconds(ttl)));
  }
  // RFC 2308 §5: the SOA record limits a negative answer; without one the limit is unknown.
  const soa = authorities.find(({ type }) => type === TYPE.SOA);
  if (soa === undefined || soa.end - soa.dataAt < 4) return 0;
  return Math.min(MAX_KEEP_NEGATIVE_SECONDS, seconds(soa.ttl), bytes.readUInt32BE(soa.end - 4));
}

/** RFC 2181 §8: with the highest bit set it counts as 0. */
const seconds = (ttl: number): number => (ttl > 0x7fffffff ? 0 : ttl);

/**
 * The response as an answer to a client's query: with its id and spelling, TTLs counted down.
 * @param ageSeconds time in the cache
 */
export function answerWith(
  { bytes, ttls }: Response,
  question: Question,
  ageSeconds: number,
  transport: Transport,
): Buffer {
  const answer = Buffer.from(bytes);
  answer.writeUInt16BE(question.id, 0);
  if (answer.readUInt16BE(4) === 1) question.bytes.copy(answer, HEADER_BYTES);
  for (const at of ttls) {
    answer.writeUInt32BE(Math.max(0, seconds(answer.readUInt32BE(at)) - ageSeconds), at);
  }
  // RD and CD are the client's, RA is weft's.
  const flags = (answer.readUInt16BE(2) & ~0x0110) | (question.flags & 0x0110) | 0x0080;
  answer.writeUInt16BE(flags, 2);
  if (answer.length <= limitOf(question, transport)) return answer;
  // Too large: the question alone with the TC bit, so that the client asks again over TCP.
  const cut = Buffer.from(answer.subarray(0, HEADER_BYTES + question.bytes.length));
  cut.writeUInt16BE(flags | 0x0200, 2);
  cut.writeUInt16BE(1, 4);
  cut.fill(0, 6, HEADER_BYTES);
  return cut;
}
