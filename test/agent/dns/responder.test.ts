// Responder: equal answers with and without its cache, and bounds of the cache.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { decode, encode } from 'dns-packet';
import test from 'ava';

import { NameTable } from '../../../agent/dns/names.js';
import { Responder, type Client } from '../../../agent/dns/responder.js';
import { Upstream } from '../../../agent/dns/upstream.js';
import { Problems } from '../../../agent/health/problems.js';
import { IpAddress } from '../../../core/address.js';

function responderOf(client: Partial<Client> = {}): Responder {
  const table = new NameTable();
  table.put('db', {
    ...{ network: 'blue', name: 'db', names: ['db'], origin: { kind: 'own' } },
    addresses: ['10.100.1.2', '10.100.1.3'].map((ip) => IpAddress.parse(ip)),
  });
  return new Responder({
    world: { table, healthOf: () => 'up', isOverlay: () => false },
    upstream: new Upstream({ servers: () => [], isOwn: () => false, problems: new Problems() }),
    generation: () => table.generation,
    clientAt: () => ({ networks: ['blue'], external: false, isolated: false, ...client }),
    onResult: () => undefined,
  });
}

/** A query followed by meaningless bytes, as many as a datagram carries. */
function asked(id: number, more = 0): Buffer {
  const question = encode({ type: 'query', id, flags: 0x0100, questions: [{ type: 'A', name: 'db' }] });
  return Buffer.concat([question, Buffer.alloc(more)]);
}

test('a short and a long query get their own id and rotated addresses, the first time and again', (t) => {
  const responder = responderOf();
  const firsts = [
    [1, 0],
    [2, 0],
    [3, 60_000],
    [4, 60_000],
  ].map(([id = 0, more]) => {
    const answer = responder.handle(asked(id, more), '10.100.1.9', 'udp');
    if (!Buffer.isBuffer(answer)) throw new Error('no answer at once');
    const { id: answered, answers = [] } = decode(answer);
    t.is(answered, id);
    t.is(answers.length, 2);
    const [first] = answers;
    return first !== undefined && 'data' in first ? first.data : undefined;
  });
  t.deepEqual(firsts, ['10.100.1.2', '10.100.1.3', '10.100.1.2', '10.100.1.3']);
});

test('a client cannot fill the memory with long messages', (t) => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const used = (): number => {
    collect();
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  };
  const responder = responderOf();
  // One buffer for all: dropped ones are freed at the collector's discretion, and would be counted.
  const message = asked(0, 60_000);
  const before = used();
  for (let id = 0; id < 1000; id++) {
    message.writeUInt32BE(id, message.length - 4);
    void responder.handle(message, '10.100.1.9', 'udp');
  }
  const grown = (used() - before) / 1024 / 1024;
  t.true(grown < 10, `${grown.toFixed()} MiB for 1,000 questions`);
  t.true(Buffer.isBuffer(responder.handle(asked(1), '10.100.1.9', 'udp')));
});

test('a client of internal networks alone gets names of weft’s, and no others are asked for', async (t) => {
  const query = (name: string): Buffer =>
    encode({ type: 'query', id: 7, flags: 0x0100, questions: [{ type: 'A', name }] });
  const rcodes = async (isolated: boolean): Promise<number[]> => {
    const responder = responderOf({ isolated });
    const rcode = async (name: string): Promise<number> =>
      ((await responder.handle(query(name), '10.100.1.9', 'udp'))?.[3] ?? 0) & 0xf;
    return [await rcode('db'), await rcode('outside.example')];
  };
  // There is no server here: SERVFAIL shows that one would have been asked (RFC 1035 §4.1.1).
  t.deepEqual(await rcodes(false), [0, 2]);
  t.deepEqual(await rcodes(true), [0, 5]);
});
