// The table of names and the meaning of names, as tables of queries.
//
// Also the law that single changes lead to the same table as a rebuild.
import fc from 'fast-check';
import test from 'ava';

import {
  addressesOf,
  inTurn,
  meaningOf,
  type Meaning,
  type NodeHealth,
  type World,
} from '../../../agent/dns/answer.js';
import { TYPE } from '../../../agent/dns/message.js';
import { NameTable, type Entry } from '../../../agent/dns/names.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import { addressOfReverseName, isDnsName, parseDnsName } from '../../../core/names.js';

const entry = (network: string, names: string[], ips: string[], node = 'h1'): Entry => ({
  network,
  name: names[0] ?? '',
  names,
  addresses: ips.map((ip) => IpAddress.parse(ip)),
  origin: { kind: 'endpoint', id: `${network}-${names.join()}`, node, target: 'pid:1' },
});

function worldOf(entries: readonly Entry[], health: Record<string, NodeHealth> = {}): World {
  const table = new NameTable();
  for (const [i, one] of entries.entries()) table.put(String(i), one);
  const overlay = [IpNetwork.parse('10.100.0.0/16'), IpNetwork.parse('10.101.0.0/16')];
  return {
    table,
    healthOf: (node) => health[node] ?? 'up',
    isOverlay: (ip) => overlay.some((network) => network.contains(ip)),
  };
}

const world = worldOf([
  entry('blue', ['db', 'store'], ['10.100.1.2', 'fd42::2']),
  entry('Red', ['db'], ['10.101.1.2']),
  entry('blue', ['a.b'], ['10.100.1.3']),
  entry('b', ['a'], ['10.100.1.4']),
  entry('blue', ['_under_score'], ['10.100.1.5']),
  entry('blue', [], ['10.100.1.6']),
]);

const shown = (meaning: Meaning): string =>
  meaning.kind === 'addresses'
    ? meaning.entries.flatMap(({ addresses }) => addresses.map(String)).join(' ')
    : meaning.kind === 'names'
      ? meaning.names.join(' ')
      : meaning.kind;

for (const [name, networks, expected] of [
  ['db', 'blue', '10.100.1.2 fd42::2'],
  ['db', 'Red blue', '10.101.1.2'],
  ['db', '', 'forward'],
  ['store.blue', 'blue', '10.100.1.2 fd42::2'],
  ['db.blue', 'Red', 'forward'],
  ['db.blue.weft', 'Red', 'unknown'],
  ['db.red.weft', 'blue Red', '10.101.1.2'],
  ['db.weft', 'blue', '10.100.1.2 fd42::2'],
  ['a.b', 'blue', '10.100.1.3'],
  // NAME.NETWORK takes precedence over a name with a dot.
  ['a.b', 'blue b', '10.100.1.4'],
  ['a.b.blue.weft', 'blue', '10.100.1.3'],
  ['_under_score', 'blue', '10.100.1.5'],
  ['weft', 'blue', 'empty'],
  ['blue.weft', 'blue', 'empty'],
  ['blue.weft', 'Red', 'unknown'],
  ['x.blue.weft', 'blue', 'unknown'],
  ['www.example.com', 'blue', 'forward'],
  ['2.1.100.10.in-addr.arpa', 'blue', 'db.blue.weft'],
  ['2.1.100.10.in-addr.arpa', 'Red', 'unknown'],
  ['6.1.100.10.in-addr.arpa', 'blue', 'unknown'],
  ['1.2.0.192.in-addr.arpa', 'blue', 'forward'],
  ['100.10.in-addr.arpa', 'blue', 'forward'],
] as const) {
  test(`${name}, asked from ${networks === '' ? 'nowhere' : networks}: ${expected}`, (t) => {
    const type = name.endsWith('.arpa') ? TYPE.PTR : TYPE.A;
    t.is(shown(meaningOf(world, name, type, networks.split(' ').filter(Boolean))), expected);
  });
}

test('endpoints of a node that is down come last, and disappear when the node is gone', (t) => {
  const both = [entry('blue', ['x'], ['10.100.1.1'], 'h1'), entry('blue', ['x'], ['10.100.2.1'], 'h2')];
  const ask = (health: Record<string, NodeHealth>): string =>
    shown(meaningOf(worldOf(both, health), 'x', TYPE.A, ['blue']));
  t.is(ask({ h1: 'silent' }), '10.100.2.1 10.100.1.1');
  t.is(ask({ h1: 'gone' }), '10.100.2.1');
  t.is(ask({ h1: 'gone', h2: 'gone' }), 'forward');
  const meaning = meaningOf(worldOf(both, { h1: 'silent' }), 'x', TYPE.A, ['blue']);
  t.is(meaning.kind === 'addresses' ? addressesOf(meaning, TYPE.A).up : -1, 1);
  t.deepEqual(inTurn(['a', 'b', 'c', 'd'], 2, 1), ['b', 'a', 'd', 'c']);
  t.deepEqual(inTurn([], 0, 3), []);
});

test('single changes make the same table as a rebuild', (t) => {
  const step = fc.record({
    key: fc.constantFrom('1', '2', '3', '4'),
    gone: fc.boolean(),
    network: fc.constantFrom('blue', 'red'),
    names: fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { maxLength: 3 }),
    ip: fc.constantFrom('10.100.0.1', '10.100.0.2'),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const table = new NameTable();
      const last = new Map<string, Entry>();
      for (const { key, gone, network, names, ip } of steps) {
        const before = table.generation;
        const known = last.get(key);
        if (gone) {
          table.remove(key);
          last.delete(key);
        } else {
          table.put(key, entry(network, names, [ip]));
          last.set(key, entry(network, names, [ip]));
        }
        t.is(table.generation !== before, JSON.stringify(known) !== JSON.stringify(last.get(key)));
      }
      for (const network of ['blue', 'red']) {
        for (const name of ['a', 'b', 'c']) {
          const wanted = [...last.values()].filter(
            (one) => one.network === network && one.names.includes(name),
          );
          t.is(table.find(network, name).length, wanted.length);
        }
      }
      for (const ip of ['10.100.0.1', '10.100.0.2']) {
        const wanted = [...last.values()].filter(({ addresses }) => String(addresses[0]) === ip);
        t.is(table.findAddress(ip).length, wanted.length);
      }
    }),
  );
});

test('5,000 endpoints: a change costs its own names', (t) => {
  const table = new NameTable();
  for (let n = 0; n < 5000; n++)
    table.put(String(n), entry('blue', [`c${n}`], [`10.100.${n >> 8}.${n & 0xff}`]));
  const began = performance.now();
  for (let n = 0; n < 5000; n++) {
    table.put('more', entry('blue', ['more'], [`10.101.${n >> 8}.${n & 0xff}`]));
    t.is(table.find('blue', 'more').length, 1);
  }
  const each = (performance.now() - began) / 5000;
  t.log(`${(each * 1000).toFixed(1)} µs a change`);
  // Rebuilding the table takes milliseconds.
  t.true(each < 1);
});

test('valid DNS names, and addresses of reverse names', (t) => {
  t.is(parseDnsName('My_DB.Local-1'), 'my_db.local-1');
  for (const bad of [
    '',
    'a..b',
    '.a',
    'a.',
    '-a',
    'a b',
    'é',
    'x'.repeat(64),
    `${'x'.repeat(60)}.`.repeat(3),
  ]) {
    t.throws(() => parseDnsName(bad), { message: /not a name that can be asked for/ }, bad);
  }
  t.true(isDnsName('a.b-c_d'));
  t.false(isDnsName('a..b'));
  t.false(isDnsName('x'.repeat(64)));
  fc.assert(
    fc.property(fc.bigInt({ min: 0n, max: 2n ** 128n - 1n }), (value) => {
      const digits = value.toString(16).padStart(32, '0').split('').reverse().join('.');
      t.true(addressOfReverseName(`${digits}.ip6.arpa`)?.equals(IpAddress.of(6, value)));
    }),
  );
  t.is(addressOfReverseName('4.3.2.1.in-addr.arpa')?.toString(), '1.2.3.4');
  t.is(addressOfReverseName('256.3.2.1.in-addr.arpa'), undefined);
  t.is(addressOfReverseName('1.in-addr.arpa'), undefined);
});
