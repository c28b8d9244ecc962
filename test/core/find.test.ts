// What a word means: the documented order, and ambiguity.
import test from 'ava';

import { find, type FindableEndpoint } from '../../core/find.js';

const endpoint = (id: string, name: string, more: Partial<FindableEndpoint> = {}): FindableEndpoint => ({
  ...{ id, name, network: 'blue', node: 'h1', target: `netns:/run/netns/${name}` },
  ...{ hostIfname: `wfve${id.slice(0, 4)}`, mac: '02:00:00:00:00:01', ip: '10.100.5.2/24', aliases: [] },
  ...more,
});

const web = endpoint('0123456789abcdef', 'web', { aliases: ['www'], target: 'docker:web-1' });
const db = endpoint('db11111111111111', 'other', { ip: '10.100.5.3/24', mac: '02:00:00:00:00:02' });
const db2 = endpoint('fedcba9876543210', 'db', { node: 'h2', ip: '10.100.6.2/24', mac: '02:00:00:00:00:03' });
const red = endpoint('aaaaaaaaaaaaaaaa', 'web', {
  ...{ network: 'red', node: 'h2', ip: '10.101.5.2/24', ip6: 'fd42:101::2/64', mac: '02:00:00:00:00:04' },
  target: 'netns:/run/netns/c1',
});
const c1 = endpoint('bbbbbbbbbbbbbbbb', 'own', {
  ...{ ip: '10.100.5.9/24', mac: '02:00:00:00:00:05', target: 'netns:/run/netns/c1' },
});
const cluster = {
  endpoints: [web, db, db2, red, c1],
  nodes: [
    { name: 'h1', publicIp: '192.0.2.10' },
    { name: 'h2', publicIp: '192.0.2.11', publicIp6: '2001:db8::11' },
    { name: 'db', publicIp: '192.0.2.12' },
  ],
};

const idsOf = (word: string, here: string[] = []): string[] =>
  find(word, cluster, here).map((found) =>
    found.kind === 'node' ? `node ${found.node}` : found.endpoint.id.slice(0, 4),
  );

const TABLE: [word: string, found: string[]][] = [
  // A prefix says what it is.
  ['docker:web-1', ['0123']],
  ['docker:other', []],
  // An id, whole or as tables show it.
  ['0123456789abcdef', ['0123']],
  ['0123456789ab', ['0123']],
  // An address of an endpoint or a node, and a MAC address as people write them.
  ['10.100.6.2', ['fedc']],
  ['fd42:101:0::2', ['aaaa']],
  ['192.0.2.11', ['node h2']],
  ['2001:db8::11', ['node h2']],
  ['02-00-00-00-00-02', ['db11']],
  // A name comes before the beginning of an id, a TARGET and a node.
  ['db', ['fedc']],
  ['www.blue', ['0123']],
  ['web', ['0123', 'aaaa']],
  ['web.red', ['aaaa']],
  // The node's interface, then a TARGET.
  ['wfvefedc', ['fedc']],
  ['web-1', ['0123']],
  ['c1', ['aaaa', 'bbbb']],
  ['netns:/var/run/netns/c1', ['aaaa', 'bbbb']],
  ['/run/netns/c1', ['aaaa', 'bbbb']],
  ['h2', ['node h2']],
  ['0123', ['0123']],
  ['nobody', []],
];

for (const [word, found] of TABLE)
  test(`${word} is ${found.join(' or ') || 'nothing'}`, (t) => t.deepEqual(idsOf(word), found));

test('what this host means by a TARGET comes before what another one calls so', (t) => {
  t.deepEqual(idsOf('c1', [c1.id]), ['bbbb']);
  t.deepEqual(idsOf('netns:/run/netns/c1', [red.id]), ['aaaa']);
  t.deepEqual(idsOf('pid:4711', [red.id]), ['aaaa']);
  t.deepEqual(idsOf('db', [red.id]), ['fedc'], 'a name comes before a TARGET');
});
