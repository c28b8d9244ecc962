// What the leading controller cleans up, and what it must leave alone.
import test from 'ava';

import { cleanUp, findLeftovers } from '../../controller/cleanup.js';
import { IpAddress } from '../../core/address.js';
import { silentLogger as log } from '../../daemon/log.js';
import { FakeStore } from '../fakes/store.js';
import { until } from '../lab/wait.js';
import { endpoint, lease, node, networkWith } from './records.js';

const AT = '2026-01-01T00:00:00.000Z';
const blue = networkWith('blue', '10.100.0.0/16', 4096);

function setUp(): FakeStore {
  const store = new FakeStore();
  store.putNetwork(blue);
  store.putNode(node('n1', '192.0.2.1'));
  lease(store, 'blue', '10.100.5.0/24', 'n1', '192.0.2.1');
  lease(store, 'blue', '10.100.9.0/24', 'n2', '192.0.2.2');
  lease(store, 'blue', '10.100.7.0/24', undefined, '192.0.2.7');
  store.putRecordOf(endpoint('aa', 'blue', 'n1'));
  store.putRecordOf(endpoint('bb', 'blue', 'n2'));
  store.putClaim({
    network: 'blue',
    ip: IpAddress.parse('10.100.5.9'),
    node: 'n2',
    endpoint: 'bb',
    state: 'granted',
  });
  return store;
}

const found = (store: FakeStore): string[] =>
  findLeftovers(store).map(({ key }) => key.split(' ').slice(0, 2).join(' '));

test('nothing is deleted for a node that is down or lost from etcd', (t) => {
  const store = setUp();
  store.setAlive('n1', undefined);
  t.deepEqual(found(store), []);
  store.dropNode('n1');
  t.deepEqual(found(store), []);
});

test('everything of a removed node is deleted, and nothing of others', (t) => {
  const store = setUp();
  store.putRemoval({ kind: 'node', name: 'n2', at: AT, forced: false });
  t.deepEqual(found(store), ['endpoint blue/bb', 'claim blue/10.100.5.9', 'lease blue/10.100.9.0/24']);
  store.setAlive('n2', 'i-n2');
  t.deepEqual(found(store), []);
});

test('a removed node that has rejoined keeps its records', (t) => {
  const store = setUp();
  store.putRemoval({ kind: 'node', name: 'n1', at: AT, forced: false });
  t.deepEqual(found(store), []);
});

test('late records of a removed network are deleted, but no flanneld’s subnet', async (t) => {
  const store = setUp();
  await store.removeNetwork('blue', { force: true });
  t.deepEqual(found(store), []);
  store.putRecordOf(endpoint('aa', 'blue', 'n1'));
  lease(store, 'blue', '10.100.5.0/24', 'n1', '192.0.2.1');
  lease(store, 'blue', '10.100.7.0/24', undefined, '192.0.2.7');
  t.deepEqual(found(store), ['endpoint blue/aa', 'lease blue/10.100.5.0/24']);
  store.putBad({ key: '/weft/networks/blue/config', why: 'not JSON' });
  t.deepEqual(found(store), []);
});

test('a leftover is deleted when it was seen twice, and only while etcd answers', async (t) => {
  const store = setUp();
  const stop = new AbortController();
  let removed = 0;
  /** What was removed before each look. */
  const looks: number[] = [];
  Object.defineProperty(store, 'isSynced', {
    get: () => {
      looks.push(removed);
      // Away in the second look, which would be sure, and in the third.
      if (looks.length === 2 || looks.length === 4) store.setConnected(looks.length === 4);
      return true;
    },
  });
  store.putRemoval({ kind: 'node', name: 'n2', at: AT, forced: false });
  const running = cleanUp({
    store,
    log,
    signal: stop.signal,
    everyMs: 10,
    onRemoved: (count) => (removed += count),
  });
  await until('a look after the fifth', () => looks.length > 5, { everyMs: 10 });
  stop.abort();
  await running;
  t.deepEqual(looks.slice(0, 6), [0, 0, 0, 0, 0, 3]);
  t.deepEqual(found(store), []);
  t.deepEqual([...(store.view.endpoints.get('blue')?.keys() ?? [])], ['aa']);
});
