// Outages of etcd.
//
// Stalled, unreachable, killed, restored from a copy, emptied, and one of several servers down: each is detected, reported once,
// and over when etcd answers.
import { cpSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';

import { IpNetwork } from '../../core/address.js';
import { decodeConfig } from '../../store/network-codec.js';
import type { Store } from '../../store/store.js';
import { startEtcd, temporaryFolder, type TestEtcd } from './etcd.js';
import { closeStores, eventually, freshPrefix, openTestStore, recordingLog, storeOn } from './helpers.js';
import { startProxy } from './proxy.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

const net = decodeConfig('blue', '{"Network":"10.100.0.0/16","Backend":{"Type":"vxlan"}}');

test.serial(
  'a stalled etcd is detected within 5 s, reported once, and not flooded until it answers',
  async (t) => {
    const prefix = freshPrefix();
    const log = recordingLog();
    const store = await storeOn(etcd, prefix, log);
    await eventually(() => store.state.connected, 'the watch runs');
    const states: boolean[] = [];
    store.onState((state) => states.push(state.connected));
    const busy = process.cpuUsage();
    etcd.pause();
    const since = performance.now();
    await eventually(() => !store.state.connected, 'the stall is seen', 5000);
    t.log(`seen after ${Math.round(performance.now() - since)} ms`);
    t.regex(store.state.error ?? '', new RegExp(`etcd at ${etcd.url} does not answer`));
    const asked = performance.now();
    await t.throwsAsync(store.deleteClaim('blue', '10.0.0.1', 'x'), { message: /does not answer/ });
    t.true(performance.now() - asked < 100, 'a call in an outage fails at once');
    await sleep(3000);
    const { user, system } = process.cpuUsage(busy);
    t.log(`${Math.round((user + system) / 1000)} ms of CPU in ${Math.round(performance.now() - since)} ms`);
    etcd.resume();
    const back = performance.now();
    await eventually(() => store.state.connected, 'it is back', 1500);
    t.log(`back after ${Math.round(performance.now() - back)} ms`);
    t.deepEqual(states, [false, true]);
    t.deepEqual(
      log.lines.filter((line) => line.level !== 'debug').map((line) => line.message),
      ['etcd connected', 'etcd is unreachable; weft continues with its last state', 'etcd connected'],
    );
    await store.close();
  },
);

test.serial('silent servers do not keep the client from the one that answers', async (t) => {
  const proxies = await Promise.all([0, 1, 2].map(() => startProxy(etcd.port)));
  for (const proxy of proxies) proxy.stall(true);
  t.teardown(() => Promise.all(proxies.map((proxy) => proxy.close())));
  const urls = [...proxies.map(({ url }) => url), etcd.url];
  // The time for three head starts and one list, on this machine at this moment.
  const headStarts = (async () => {
    const since = performance.now();
    for (let i = 0; i < 3; i++) await sleep(250);
    const store = openTestStore([etcd.url], freshPrefix());
    await store.synced(AbortSignal.timeout(10_000));
    await store.close();
    return performance.now() - since;
  })();
  // Each client begins with a random server.
  const took = await Promise.all(
    Array.from({ length: 6 }, async () => {
      const since = performance.now();
      const store = openTestStore(urls, freshPrefix());
      await store.synced(AbortSignal.timeout(10_000));
      await store.close();
      return Math.round(performance.now() - since);
    }),
  );
  t.log(`connected after ${took.join(', ')} ms`);
  const allowed = Math.max(1200, (await headStarts) + 350);
  t.true(Math.max(...took) < allowed, `three head starts, not three deadlines: ${took.join(', ')} ms`);
});

test.serial('a black hole on the path is detected, and so is its end', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(() => proxy.close());
  const store = openTestStore([proxy.url], prefix);
  await eventually(() => store.state.connected, 'the watch runs');
  proxy.stall(true);
  await eventually(() => !store.state.connected, 'it is seen', 5000);
  await etcd.raw.put(`${prefix}/nodes/n1`).value('{"instance":"i","publicIp":"192.0.2.1"}');
  await sleep(2000);
  proxy.stall(false);
  const back = performance.now();
  await eventually(() => store.view.nodes.has('n1'), 'the change is there', 1500);
  t.log(`back after ${Math.round(performance.now() - back)} ms`);
  t.is(store.state.resyncs, 0);
  await store.close();
});

test.serial('after a restart of etcd everything is back within a second', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await eventually(() => store.state.connected, 'the watch runs');
  await etcd.kill();
  await eventually(() => !store.state.connected, 'it is seen', 1000);
  await sleep(3000);
  await etcd.start();
  const back = performance.now();
  await etcd.raw.put(`${prefix}/nodes/n1`).value('{"instance":"i","publicIp":"192.0.2.1"}');
  await eventually(() => store.view.nodes.has('n1'), 'the change is there', 1500);
  t.log(`back after ${Math.round(performance.now() - back)} ms`);
  t.is(store.state.resyncs, 0);
  await store.close();
});

const asNode = (name: string, publicIp: string) => ({
  name,
  instance: name,
  publicIp,
  version: '',
  startedAt: '',
});

/** Writes, copies etcd's data, writes more, and restarts etcd with the copy. */
async function restored(
  own: TestEtcd,
  store: Store,
  prefix: string,
  after: (copy: string) => Promise<void>,
): Promise<void> {
  await own.raw.put(`${prefix}/nodes/old`).value('{"instance":"old","publicIp":"192.0.2.1"}');
  await own.raw.put(`${prefix}/nodes/moves`).value('{"instance":"moves","publicIp":"192.0.2.2"}');
  await eventually(() => store.view.nodes.size === 2, 'two nodes');
  await own.kill();
  const copy = path.join(temporaryFolder('copy'), 'data');
  cpSync(own.dataDir, copy, { recursive: true });
  await own.start();
  await own.raw.put(`${prefix}/nodes/moves`).value('{"instance":"moves","publicIp":"192.0.2.22"}');
  for (let i = 0; i < 20; i++)
    await own.raw.put(`${prefix}/nodes/new`).value(`{"instance":"new${i}","publicIp":"192.0.2.3"}`);
  await eventually(() => store.view.nodes.get('new')?.instance === 'new19', 'three nodes');
  await own.kill();
  await after(copy);
}

test.serial('after a restore from an older copy the view is the copy', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const store = await storeOn(own, '/weft');
  await restored(own, store, '/weft', async (copy) => await own.start(copy));
  await eventually(() => store.state.connected && store.state.resyncs === 1, 'it is seen', 3000);
  t.deepEqual(Object.fromEntries(store.view.nodes), {
    moves: asNode('moves', '192.0.2.2'),
    old: asNode('old', '192.0.2.1'),
  });
  await own.raw.put('/weft/nodes/later').value('{"instance":"later","publicIp":"192.0.2.9"}');
  await eventually(() => store.view.nodes.has('later'), 'it goes on');
  await store.close();
});

test.serial('a restored copy that has grown past the old revision is detected', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const proxy = await startProxy(own.port);
  t.teardown(async () => await proxy.close());
  const store = openTestStore([proxy.url], '/weft');
  await store.synced();
  await restored(own, store, '/weft', async (copy) => {
    proxy.refuse(true);
    await own.start(copy);
    // A different history, longer than the old one.
    for (let i = 0; i < 60; i++)
      await own.raw.put('/weft/nodes/new').value(`{"instance":"other${i}","publicIp":"192.0.2.4"}`);
    proxy.refuse(false);
  });
  await eventually(() => store.state.connected && store.state.resyncs === 1, 'it is seen', 3000);
  t.deepEqual([...store.view.nodes.keys()].sort(), ['moves', 'new', 'old']);
  t.is(store.view.nodes.get('moves')?.publicIp, '192.0.2.2');
  t.is(store.view.nodes.get('new')?.instance, 'other59');
  await store.close();
});

test.serial('an emptied etcd: all records are deleted and reported as deleted', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const store = await storeOn(own, '/weft');
  await own.raw.put('/weft/nodes/old').value('{"instance":"old","publicIp":"192.0.2.1"}');
  await eventually(() => store.view.nodes.size === 1, 'one node');
  const seen: string[] = [];
  store.subscribe((changes) =>
    seen.push(...changes.map((change) => `${change.kind} ${'after' in change ? 'set' : 'deleted'}`)),
  );
  await own.kill();
  await own.start(path.join(temporaryFolder('empty'), 'data'));
  await eventually(() => store.view.nodes.size === 0, 'it is deleted', 3000);
  t.deepEqual(seen, ['node deleted']);
  await store.close();
});

test.serial('the client changes servers where one does not answer', async (t) => {
  const prefix = freshPrefix();
  const proxies = await Promise.all([startProxy(etcd.port), startProxy(etcd.port), startProxy(etcd.port)]);
  t.teardown(() => Promise.all(proxies.map((proxy) => proxy.close())));
  const store = openTestStore(
    proxies.map((proxy) => proxy.url),
    prefix,
  );
  await eventually(() => store.state.connected, 'the watch runs');
  for (const proxy of proxies) {
    for (const other of proxies) other.refuse(other !== proxy);
    for (const other of proxies) if (other !== proxy) other.cut();
    const since = performance.now();
    await store.deleteClaim('blue', '10.0.0.1', 'x').catch(() => undefined);
    await eventually(() => store.state.connected, 'connected again', 2000);
    t.true(
      await store.restoreNetwork({ ...net }).then(
        () => true,
        () => false,
      ),
    );
    t.log(`${Math.round(performance.now() - since)} ms`);
  }
  await store.close();
});

test.serial('after a restore from an older copy, removals are repeated', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const store = await storeOn(own, '/weft');
  const witness = await storeOn(own, '/weft');
  const create = async (name: string, subnet: string) =>
    await store.createNetwork({ name, subnet: IpNetwork.parse(subnet) });
  await create('removed', '10.101.0.0/16');
  await create('kept', '10.102.0.0/16');
  await own.raw.put('/weft/nodes/gone').value('{"instance":"gone","publicIp":"192.0.2.1"}');
  await eventually(() => witness.view.nodes.has('gone'), 'the node is known');
  await own.kill();
  const copy = path.join(temporaryFolder('copy'), 'data');
  cpSync(own.dataDir, copy, { recursive: true });
  await own.start();
  await eventually(() => store.state.connected && witness.state.connected, 'both are back');
  // A node is rewritten at each start: the copy has the removed node as of an earlier start.
  await own.raw.put('/weft/nodes/gone').value('{"instance":"gone","publicIp":"192.0.2.2"}');
  await eventually(() => store.view.nodes.get('gone')?.publicIp === '192.0.2.2', 'it is written again');
  await store.removeNetwork('removed', { force: false });
  await store.removeNode('gone', { force: false });
  await eventually(() => witness.view.removals.size === 2, 'the witness has seen it');
  await own.kill();
  await own.start(copy);
  await eventually(() => witness.state.restored !== undefined, 'the copy is noticed');
  await eventually(
    () =>
      !witness.view.networks.has('removed') &&
      !witness.view.nodes.has('gone') &&
      witness.view.removals.size === 2,
    'both are deleted again, and the tombstones exist',
  );
  t.true(witness.view.networks.has('kept'));
  await Promise.all([store.close(), witness.close()]);
});

test.serial(
  'after a loss of all data a tombstone is written back, and spares what was created since',
  async (t) => {
    const own = await startEtcd();
    t.teardown(async () => await own.stop());
    const witness = await storeOn(own, '/weft');
    await witness.createNetwork({ name: 'old', subnet: IpNetwork.parse('10.101.0.0/16') });
    await witness.createNetwork({ name: 'again', subnet: IpNetwork.parse('10.102.0.0/16') });
    await witness.removeNetwork('old', { force: false });
    await witness.removeNetwork('again', { force: false });
    await own.kill();
    await own.start(path.join(temporaryFolder('empty'), 'data'));
    await own.raw
      .put('/weft/networks/again/config')
      .value('{"Network":"10.103.0.0/16","Backend":{"Type":"vxlan"}}');
    await eventually(() => witness.view.removals.has('network old'), 'the tombstone is back');
    await sleep(500);
    t.true(witness.view.networks.has('again'));
    t.false(witness.view.removals.has('network again'));
    await witness.close();
  },
);
