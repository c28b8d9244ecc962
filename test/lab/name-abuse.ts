// Malformed queries to a DNS server from inside a container.
//
// Over UDP and TCP; prints at the end what came back for each.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import { encode } from 'dns-packet';

const [, , server = '', name = ''] = process.argv;

const good = encode({ type: 'query', id: 4711, flags: 0x0100, questions: [{ type: 'A', name }] });
const header = (...words: number[]): Buffer => Buffer.from(words.flatMap((word) => [word >> 8, word & 0xff]));
const QUERY = 0x0100;

/** The answer to each, as its code, or "nothing". */
const cases: Record<string, Buffer> = {
  'an answer': Buffer.concat([header(1, 0x8180, 1, 0, 0, 0), good.subarray(12)]),
  'no header': good.subarray(0, 11),
  'a header alone': header(2, QUERY, 1, 0, 0, 0),
  'no question': header(3, QUERY, 0, 0, 0, 0),
  'two questions': Buffer.concat([header(4, QUERY, 2, 0, 0, 0), good.subarray(12), good.subarray(12)]),
  '65535 questions': Buffer.concat([header(5, QUERY, 0xffff, 0, 0, 0), good.subarray(12)]),
  'a cut name': Buffer.concat([header(6, QUERY, 1, 0, 0, 0), Buffer.from([40, 0x61, 0x62])]),
  'a cut type': Buffer.concat([header(7, QUERY, 1, 0, 0, 0), good.subarray(12, -3)]),
  'a pointer to itself': Buffer.concat([header(8, QUERY, 1, 0, 0, 0), Buffer.from([0xc0, 12, 0, 1, 0, 1])]),
  'a pointer ahead': Buffer.concat([header(9, QUERY, 1, 0, 0, 0), Buffer.from([0xc0, 200, 0, 1, 0, 1])]),
  'a reserved label': Buffer.concat([header(10, QUERY, 1, 0, 0, 0), Buffer.from([0x80, 1, 0, 0, 1, 0, 1])]),
  'a name of 300 bytes': Buffer.concat([
    header(11, QUERY, 1, 0, 0, 0),
    ...Array.from({ length: 10 }, () => Buffer.concat([Buffer.from([29]), Buffer.alloc(29, 0x61)])),
    Buffer.from([0, 0, 1, 0, 1]),
  ]),
  'an update': Buffer.concat([header(12, 0x2800, 1, 0, 0, 0), good.subarray(12)]),
  'a looping additional record': Buffer.concat([
    header(13, QUERY, 1, 0, 0, 1),
    good.subarray(12),
    Buffer.from([0xc0, good.length, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0]),
  ]),
  'two OPT records': Buffer.concat([
    header(14, QUERY, 1, 0, 0, 2),
    good.subarray(12),
    ...[1, 2].map(() => Buffer.from([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0])),
  ]),
  'EDNS version 1': Buffer.concat([
    header(15, QUERY, 1, 0, 0, 1),
    good.subarray(12),
    Buffer.from([0, 0, 41, 4, 208, 0, 1, 0, 0, 0, 0]),
  ]),
  'class CHAOS': Buffer.concat([header(16, QUERY, 1, 0, 0, 0), good.subarray(12, -2), Buffer.from([0, 3])]),
  'class ANY': Buffer.concat([header(17, QUERY, 1, 0, 0, 0), good.subarray(12, -2), Buffer.from([0, 255])]),
  'a whole zone': Buffer.concat([
    header(18, QUERY, 1, 0, 0, 0),
    good.subarray(12, -4),
    Buffer.from([0, 252, 0, 1]),
  ]),
};
const CODES = ['NOERROR', 'FORMERR', 'SERVFAIL', 'NXDOMAIN', 'NOTIMP', 'REFUSED'];

const udp = createSocket('udp4');
udp.connect(53, server);
await once(udp, 'connect');

const results: Record<string, string> = {};
/** Replies by their ids. */
const came = new Map<number, Buffer>();
udp.on('message', (message) => came.set(message.readUInt16BE(0), message));
udp.on('error', () => undefined);
let id = 5000;
for (const [what, message] of Object.entries(cases)) {
  came.clear();
  udp.send(message);
  // Then a proper query: an answer that arrives before its own belongs to the other, because they come in order.
  const proper = Buffer.from(good);
  proper.writeUInt16BE(++id, 0);
  udp.send(proper);
  while (!came.has(id)) await delay(2);
  came.delete(id);
  const [answer] = came.values();
  results[what] = answer === undefined ? 'nothing' : (CODES[(answer[3] ?? 0) & 0xf] ?? 'other');
}
// Noise: every length, mutated questions, random bytes.
let seed = 42;
const random = (): number => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) >> 8;
for (let i = 0; i < 5000; i++) {
  const noise = Buffer.from(i % 2 === 0 ? good : Buffer.alloc(random() % 600));
  for (let n = random() % 8; n >= 0; n--) noise[random() % Math.max(1, noise.length)] = random() & 0xff;
  udp.send(noise);
  if (i % 100 === 0) await delay(2);
}
udp.close();

// TCP: a length without a message, half a message, many silent connections, and garbage.
const connections = Array.from({ length: 40 }, (_, i) => {
  const socket = connect(53, server);
  socket.on('error', () => undefined);
  if (i === 1) socket.write(Buffer.from([0xff, 0xff, 1, 2, 3]));
  if (i === 2) socket.write(Buffer.from([0]));
  if (i === 3) socket.write(Buffer.alloc(70_000, 0xc0));
  if (i === 4) for (let n = 0; n < 500; n++) socket.write(Buffer.concat([header(good.length), good]));
  return socket;
});
await delay(500);
for (const socket of connections) socket.destroy();
process.stdout.write(JSON.stringify(results));
