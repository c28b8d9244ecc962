// Nodes whose place another node has, by the records alone.
import test from 'ava';

import { IpAddress } from '../../core/address.js';
import { DisplacedNodes } from '../../store/displaced-nodes.js';
import { endpoint, lease, node } from '../controller/records.js';
import { FakeStore } from '../fakes/store.js';

/** h1 is down, with an endpoint in 10.100.1.0/24; h2 is up. */
function cluster(): { store: FakeStore; found: () => string[]; displaced: DisplacedNodes } {
  const store = new FakeStore();
  store.putNode(node('h1', '192.0.2.1'), { alive: false });
  store.putNode(node('h2', '192.0.2.2'));
  lease(store, 'blue', '10.100.2.0/24', 'h2', '192.0.2.2');
  store.putRecordOf(endpoint('aa', 'blue', 'h1', { ip: '10.100.1.5/24' }));
  const displaced = new DisplacedNodes(store.view);
  store.subscribe((changes) => displaced.handle(changes));
  return { store, displaced, found: () => displaced.problems().map(({ what, why }) => `${what}: ${why}`) };
}

test('a node that is down, or away, is in nobody’s place', (t) => {
  const { found, displaced } = cluster();
  t.deepEqual(found(), []);
  t.false(displaced.isGone('h1'));
});

test('another living node at its address: it is gone, also while that one’s agent is away', (t) => {
  const { store, found, displaced } = cluster();
  store.putNode(node('web7', '192.0.2.1', { startedAt: '2026-02-01T00:00:00Z' }));
  t.true(displaced.isGone('h1'));
  t.false(displaced.isGone('web7'));
  t.is(found().length, 1);
  t.regex(found()[0] ?? '', /^node h1: it is down, and node web7 has its address 192\.0\.2\.1 now/);
  t.regex(displaced.problems()[0]?.fix ?? '', /weft node rm h1/);
  const before = found();
  store.setAlive('web7', undefined);
  t.deepEqual(found(), before);
  store.setAlive('h1', 'i-h1');
  t.deepEqual([displaced.isGone('h1'), displaced.isGone('web7')], [false, true], 'it is back itself');
});

test('another node in its subnet, by its endpoints', (t) => {
  const { store, found, displaced } = cluster();
  lease(store, 'blue', '10.100.1.0/24', 'h2', '192.0.2.2');
  t.true(displaced.isGone('h1'));
  t.regex(found()[0] ?? '', /^node h1: .* node h2 has its subnet 10\.100\.1\.0\/24 of network blue now/);
});

test('an address that it claimed in another’s subnet is no such sign', (t) => {
  const { store, found } = cluster();
  const ip = IpAddress.parse('10.100.2.77');
  store.putRecordOf(endpoint('bb', 'blue', 'h1', { ip: '10.100.2.77/32' }));
  store.putClaim({ network: 'blue', ip, node: 'h1', endpoint: 'bb', state: 'granted' });
  lease(store, 'blue', '10.100.2.0/24', 'h2', '192.0.2.2');
  t.deepEqual(found(), []);
});

test('an endpoint or a claim that comes later changes the answer', async (t) => {
  const { store, found, displaced } = cluster();
  t.deepEqual(found(), []);
  const ip = IpAddress.parse('10.100.2.77');
  store.putRecordOf(endpoint('bb', 'blue', 'h1', { ip: '10.100.2.77/32' }));
  t.is(found().length, 1);
  store.putClaim({ network: 'blue', ip, node: 'h1', endpoint: 'bb', state: 'granted' });
  t.deepEqual(found(), []);
  await store.deleteClaim('blue', ip.toString(), 'bb');
  t.is(found().length, 1);
  const before = displaced.all;
  store.putRecordOf(endpoint('cc', 'blue', 'h2', { ip: '10.100.2.78/24' }));
  t.is(displaced.all, before, 'those of a node that is up do not matter');
});

test('while every node is up a lease changes nothing', (t) => {
  const { store, displaced } = cluster();
  store.setAlive('h1', 'i-h1');
  const before = displaced.all;
  lease(store, 'blue', '10.100.1.0/24', 'h2', '192.0.2.2');
  t.is(displaced.all, before);
  store.setAlive('h1', undefined);
  t.true(displaced.isGone('h1'));
});

test('two living nodes of one address are one problem, and both stay', (t) => {
  const { store, found, displaced } = cluster();
  store.putNode(node('h3', '192.0.2.2'));
  t.is(found().length, 1);
  t.regex(found()[0] ?? '', /^nodes h2 and h3: both are up and have the same address 192\.0\.2\.2/);
  t.false(displaced.isGone('h2') || displaced.isGone('h3'));
});
