// The query that weft sends to an upstream server, and the key under which its response is cached.
import { EDNS_UDP_BYTES, HEADER_BYTES, type Question } from './message.js';

/** The cache key: everything that the response depends on. */
export function keyOfQuestion({ flags, edns }: Question, canonical: Buffer): string {
  const bits = `${(flags & 0x0010) === 0 ? '' : 'c'}${edns === undefined ? '' : 'e'}${edns?.dnssecOk === true ? 'd' : ''}`;
  return `${bits} ${canonical.toString('latin1')}`;
}

/** The query as weft sends it: always with RD, with EDNS if the client uses it, without its options. */
export function queryOf(id: number, { flags, edns }: Question, canonical: Buffer): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(0x0100 | (flags & 0x0010), 2);
  header.writeUInt16BE(1, 4);
  if (edns === undefined) return Buffer.concat([header, canonical]);
  header.writeUInt16BE(1, 10);
  const opt = Buffer.from([
    0,
    0,
    41,
    EDNS_UDP_BYTES >> 8,
    EDNS_UDP_BYTES & 0xff,
    0,
    0,
    edns.dnssecOk ? 0x80 : 0,
    0,
    0,
    0,
  ]);
  return Buffer.concat([header, canonical, opt]);
}
