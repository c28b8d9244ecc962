// Answers of a node: where, how fast, and how long they are kept.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import test from 'ava';
import { decode, encode } from 'dns-packet';

import { listenedAt } from '../../../agent/dns/dns.js';
import { NameTable } from '../../../agent/dns/names.js';
import { QueryRate } from '../../../agent/dns/query-rate.js';
import { type Client, Responder } from '../../../agent/dns/responder.js';
import { Upstream } from '../../../agent/dns/upstream.js';
import { Problems } from '../../../agent/health/problems.js';
import { IpAddress } from '../../../core/address.js';
import { bridged, membershipOf, overlay } from '../../core/records.js';

// Responder: equal answers with and without its cache, and bounds of the cache.

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

// Where a node answers names, by its networks alone.

test('a node answers at its gateways, and at 169.254.53.53 where no other host is on the link', (t) => {
  const gateway = '198.51.100.1';
  const trunk = membershipOf(bridged('vlan', { parent: 'eth1', gateway, gatewayNode: 'n1' }));
  const elsewhere = membershipOf(bridged('vlan', { parent: 'eth1', gateway, gatewayNode: 'n2' }));
  const at = (...of: (typeof trunk)[]): string[] => [...listenedAt(of).keys()];
  t.deepEqual(at(membershipOf(overlay())), ['10.100.1.1', '169.254.53.53']);
  t.deepEqual(at(trunk), [gateway]);
  t.deepEqual(at(elsewhere), []);
  t.deepEqual(at(trunk, membershipOf(overlay())), [gateway, '10.100.1.1', '169.254.53.53']);
});

// The rate of queries by TCP.

/** How many of so many queries are taken at once. */
const taken = (rate: QueryRate, ip: string, count: number): number =>
  Array.from({ length: count }, () => rate.take(ip)).filter(Boolean).length;

test('two thousand at once, then a thousand a second, for each client by itself', (t) => {
  let now = 0;
  const rate = new QueryRate(() => now);
  t.is(taken(rate, '10.1.0.2', 18_000), 2000);
  t.is(taken(rate, '10.1.0.3', 100), 100);
  now += 1000;
  t.is(taken(rate, '10.1.0.2', 18_000), 1000);
  t.false(rate.take('10.1.0.2'));
  now += 60_000;
  t.is(taken(rate, '10.1.0.2', 18_000), 2000, 'quiet clients save up no more than at the beginning');
});

test('who is too fast stays known, however many others ask', (t) => {
  let now = 0;
  const rate = new QueryRate(() => now);
  t.is(taken(rate, '10.1.0.2', 3000), 2000);
  for (let i = 0; i < 5000; i++) {
    now += 0.1;
    t.true(rate.take(`fd00::${i.toString(16)}`));
  }
  t.is(taken(rate, '10.1.0.2', 3000), 500);
});
