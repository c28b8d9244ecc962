// DNS messages: parsing, refusing, answering, and malformed input.
import { decode, encode } from 'dns-packet';
import fc from 'fast-check';
import test from 'ava';

import {
  addressRecord,
  canonicalQuestion,
  endOfQuestion,
  isTruncated,
  pointerRecord,
  RCODE,
  receive,
  refusal,
  respond,
  TYPE,
  type OwnAnswer,
  type Question,
} from '../../../agent/dns/message.js';
import { IpAddress } from '../../../core/address.js';

const query = (name: string, type = 'A', edns?: number): Buffer =>
  encode({
    type: 'query',
    id: 4711,
    flags: 0x0110,
    questions: [{ type: type as 'A', name }],
    ...(edns === undefined
      ? {}
      : {
          additionals: [
            {
              ...{ type: 'OPT', name: '.', udpPayloadSize: edns, extendedRcode: 0, ednsVersion: 0 },
              ...{ flags: 0x8000, flag_do: true, options: [] },
            },
          ],
        }),
  });

function question(name: string, type = 'A', edns?: number): Question {
  const received = receive(query(name, type, edns));
  if (received.kind !== 'question') throw new Error(received.kind);
  return received.question;
}

const found = (...ips: string[]): OwnAnswer => ({
  rcode: RCODE.NOERROR,
  answers: ips.map((ip) => addressRecord(IpAddress.parse(ip))),
  inDomain: false,
});
const many = (count: number): string[] =>
  Array.from({ length: count }, (_, n) => `10.0.${n >> 8}.${n & 0xff}`);

test('a query is parsed with its type, flags and EDNS parameters', (t) => {
  t.like(question('Db.Blue.weft', 'AAAA'), {
    id: 4711,
    flags: 0x0110,
    name: 'db.blue.weft',
    type: TYPE.AAAA,
  });
  t.deepEqual(question('db', 'A', 4096).edns, { udpBytes: 4096, dnssecOk: true });
  // RFC 6891 §6.2.3: less than 512 counts as 512.
  t.is(question('db', 'A', 100).edns?.udpBytes, 512);
  t.is(question('_http._tcp.my_name').name, '_http._tcp.my_name');
  t.is(question('.').name, '');
});

test('a label with unusual bytes matches no name of weft’s', (t) => {
  const message = query('xyz');
  message.set([0x61, 0x2e, 0x62], 13);
  const received = receive(message);
  t.is(received.kind === 'question' ? received.question.name : '', 'a\\.b');
});

test('an answer echoes the question’s spelling, and every owner is a pointer to it', (t) => {
  const bytes = respond(question('dB.bLuE', 'ANY', 1232), found('10.0.0.1', '2001:db8::1'), 'udp');
  const read = decode(bytes);
  t.like(read, { id: 4711, type: 'response', rcode: 'NOERROR', flag_aa: true, flag_ra: true, flag_rd: true });
  t.is(read.questions?.[0]?.name, 'dB.bLuE');
  t.deepEqual(
    read.answers?.map((one) => [one.type, one.name, 'data' in one ? one.data : undefined]),
    [
      ['A', 'dB.bLuE', '10.0.0.1'],
      ['AAAA', 'dB.bLuE', '2001:db8::1'],
    ],
  );
  t.is(read.additionals?.[0]?.type, 'OPT');
  t.is(
    decode(respond(question('x', 'PTR'), { ...found(), answers: [pointerRecord('a.b.weft')] }, 'udp')).answers
      ?.length,
    1,
  );
});

test('an answer is no larger than the client accepts: as many records as fit, and the TC bit', (t) => {
  for (const [edns, limit] of [
    [undefined, 512],
    [1000, 1000],
    [4096, 1232],
  ] as const) {
    const bytes = respond(question('crowd', 'A', edns), found(...many(400)), 'udp');
    t.true(bytes.length <= limit && bytes.length > limit - 16, `${bytes.length}`);
    t.true(isTruncated(bytes));
    t.true((decode(bytes).answers?.length ?? 0) >= 29);
  }
  const whole = respond(question('crowd'), found(...many(400)), 'tcp');
  t.false(isTruncated(whole));
  t.is(decode(whole).answers?.length, 400);
  t.true(respond(question('crowd'), found(...many(5000)), 'tcp').length <= 65_535);
  t.false(isTruncated(respond(question('crowd'), found(...many(2)), 'udp')));
});

test('a negative answer in weft’s own domain is authoritative and not cacheable', (t) => {
  const read = decode(
    respond(question('x.weft'), { rcode: RCODE.NXDOMAIN, answers: [], inDomain: true }, 'udp'),
  );
  t.like(read, { rcode: 'NXDOMAIN' });
  t.like(read.authorities?.[0], { type: 'SOA', name: 'weft', ttl: 0, data: { minimum: 0 } });
});

test('a malformed query is refused with its code, or not answered', (t) => {
  const base = query('db');
  const changed = (offset: number, ...bytes: number[]): Buffer => {
    const copy = Buffer.from(base);
    copy.set(bytes, offset);
    return copy;
  };
  const code = (message: Buffer): string | number => {
    const received = receive(message);
    return received.kind === 'refused' ? received.rcode : received.kind;
  };
  t.is(code(changed(2, 0x81)), 'ignored', 'an answer');
  t.is(code(Buffer.alloc(5)), 'ignored');
  t.is(code(changed(2, 0x11)), RCODE.NOTIMP, 'a status request');
  t.is(code(changed(4, 0, 2)), RCODE.FORMERR);
  t.is(code(changed(6, 0, 1)), RCODE.FORMERR, 'with an answer in it');
  t.is(code(changed(8, 0, 1)), RCODE.FORMERR);
  t.is(code(changed(10, 0xff, 0xff)), RCODE.FORMERR);
  t.is(code(changed(12, 0xc0, 12)), RCODE.FORMERR);
  t.is(code(base.subarray(0, -1)), RCODE.FORMERR);
  t.is(code(query('db', 'AXFR')), RCODE.REFUSED);
  t.is(code(Buffer.concat([base.subarray(0, -1), Buffer.from([3])])), RCODE.REFUSED, 'class CH');
  t.is(code(Buffer.concat([base.subarray(0, -1), Buffer.from([255])])), 'question', 'class ANY');
  const newer = query('db', 'A', 1232);
  newer[newer.length - 5] = 1;
  const refused = receive(newer);
  t.is(refused.kind === 'refused' ? refused.rcode : 0, RCODE.BADVERS);
  t.like(decode(refused.kind === 'refused' ? refused.response : Buffer.alloc(0)).additionals?.[0], {
    extendedRcode: 1,
  });
});

test('any input causes no exception, and every answer can be decoded', (t) => {
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 700 }),
    // Valid queries with a few bytes changed.
    fc
      .tuple(
        fc.constantFrom(query('db.blue.weft'), query('crowd', 'AAAA', 4096)),
        fc.array(fc.tuple(fc.nat(60), fc.integer({ min: 0, max: 255 })), { maxLength: 6 }),
        fc.nat(60),
      )
      .map(([base, changes, cut]) => {
        const copy = new Uint8Array(base);
        for (const [at, byte] of changes) if (at < copy.length) copy[at] = byte;
        return copy.subarray(0, Math.max(0, copy.length - (cut > 40 ? cut - 40 : 0)));
      }),
  );
  fc.assert(
    fc.property(noise, (bytes) => {
      const message = Buffer.from(bytes);
      const received = receive(message);
      if (received.kind === 'ignored') return;
      const answer =
        received.kind === 'refused'
          ? received.response
          : respond(received.question, found('10.0.0.1'), 'udp');
      t.is(answer.readUInt16BE(0), message.readUInt16BE(0));
      t.true((answer[2] ?? 0) >= 0x80);
      // A name with unusual bytes is echoed as it is; dns-packet decodes it.
      t.notThrows(() => decode(answer));
      if (received.kind === 'question') {
        const { bytes: asked } = received.question;
        t.deepEqual(canonicalQuestion(canonicalQuestion(asked)), canonicalQuestion(asked));
        t.is(endOfQuestion(refusal(received.question, RCODE.SERVFAIL)), 12 + asked.length);
      }
    }),
    { numRuns: 3000 },
  );
});
