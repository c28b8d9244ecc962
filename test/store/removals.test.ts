// Tombstones of removals, and what was created after them.
//
// An older tombstone is not believed, whether it came with a copy of etcd or the config was written by hand later; what was
// removed by force stays removed.
import { cpSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';

import { IpNetwork } from '../../core/address.js';
import { resourceExhausted, unavailable } from '../../core/errors.js';
import type { NodeRecord } from '../../core/records.js';
import { Keys } from '../../store/keys.js';
import { removeAgain } from '../../store/removals.js';
import type { Context } from '../../store/transaction.js';
import { startEtcd, temporaryFolder, type TestEtcd } from './etcd.js';
import { closeStores, eventually, freshPrefix, recordingLog, request, spec, storeOn } from './helpers.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

const quiet = { ttlSeconds: 3, onConflict: () => undefined };
const record = (name: string): NodeRecord => ({
  name,
  instance: `instance-of-${name}`,
  publicIp: '192.0.2.1',
  version: '0.1.0',
  startedAt: '2026-11-21T00:00:00Z',
});

async function copyOf(own: TestEtcd): Promise<string> {
  await own.kill();
  const copy = path.join(temporaryFolder('copy'), 'data');
  cpSync(own.dataDir, copy, { recursive: true });
  await own.start();
  return copy;
}

test.serial(
  'a copy has the tombstone of an earlier network of that name: the later network is written back',
  async (t) => {
    const own = await startEtcd();
    t.teardown(async () => await own.stop());
    const store = await storeOn(own, '/weft');
    await store.createNetwork(spec('red', '10.101.0.0/16'));
    await store.createNetwork(spec('blue', '10.102.0.0/16'));
    await store.removeNetwork('red', { force: false });
    await store.removeNetwork('blue', { force: false });
    const copy = await copyOf(own);
    await eventually(() => store.state.connected, 'it is back');
    const red = await store.createNetwork(spec('red', '10.101.0.0/16'));
    const had = request(red, 1, { previous: { subnet: IpNetwork.parse('10.101.1.0/24') } });
    await store.acquireLease(had);
    await eventually(() => store.view.leases.get('red')?.size === 1, 'a node is on it');
    const seen: boolean[] = [];
    store.subscribe(() => seen.push(store.view.removals.has('network red')));
    await own.kill();
    await own.start(copy);
    await eventually(() => store.state.restored !== undefined, 'the copy is noticed');
    t.false(seen.includes(true), 'no listener saw the removal');
    t.true(await store.restoreNetwork(red, had));
    await eventually(() => store.view.networks.has('red'), 'the network is back');
    t.is(store.view.leases.get('red')?.size, 1);
    t.is(await own.raw.get('/weft/removed/networks/red').string(), null);
    t.true(store.view.removals.has('network blue'), 'what nothing came after still counts');
    await store.close();
  },
);

test.serial('a copy has the tombstone of a node that has rejoined since: it rejoins again', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const store = await storeOn(own, '/weft');
  const before = store.announce(() => record('n1'), quiet);
  await eventually(() => store.view.alive.has('n1'), 'it is up');
  await store.removeNode('n1', { force: true });
  await before.stop();
  const copy = await copyOf(own);
  await eventually(() => store.state.connected, 'it is back');
  store.announce(() => record('n1'), quiet);
  await eventually(() => store.view.alive.has('n1'), 'the agent was started again');
  await own.kill();
  await own.start(copy);
  await eventually(() => store.state.restored !== undefined, 'the copy is noticed');
  await eventually(() => store.view.alive.has('n1') && store.view.nodes.has('n1'), 'it is there', 5000);
  t.is(store.view.removals.size, 0);
  await store.close();
});

test.serial('a config written by hand after a removal supersedes the tombstone', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const config = '{"Network":"10.101.0.0/16","Backend":{"Type":"vxlan"}}';
  await store.createNetwork(spec('blue', '10.101.0.0/16'));
  await store.removeNetwork('blue', { force: false });
  t.true(store.view.removals.has('network blue'));
  await etcd.raw.put(`${prefix}/networks/blue/config`).value(config);
  await eventually(() => store.view.networks.has('blue'), 'the network is there');
  t.is(store.view.removals.size, 0);
  const tombstone = `${prefix}/removed/networks/blue`;
  await eventually(async () => (await etcd.raw.get(tombstone).string()) === null, 'etcd forgets it');
  const blue = store.view.networks.get('blue');
  await etcd.raw.delete().key(`${prefix}/networks/blue/config`);
  await eventually(() => !store.view.networks.has('blue'), 'deleted by hand');
  t.true(blue !== undefined && (await store.restoreNetwork(blue)), 'it was lost, not removed');
});

test.serial('a tombstone that cannot be read any more is reported, and left alone', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await store.createNetwork(spec('blue', '10.101.0.0/16'));
  await store.removeNetwork('blue', { force: false });
  await eventually(() => store.view.removals.has('network blue'), 'it is removed');
  const tombstone = `${prefix}/removed/networks/blue`;
  await etcd.raw.put(tombstone).value('{"forced":1}');
  await eventually(() => store.view.bad.has(tombstone), 'it is reported');
  await etcd.raw
    .put(`${prefix}/networks/blue/config`)
    .value('{"Network":"10.102.0.0/16","Backend":{"Type":"vxlan"}}');
  await eventually(() => !store.view.removals.has('network blue'), 'the removal that was read is superseded');
  // What would be deleted would be before this.
  await store.createNetwork(spec('red', '10.103.0.0/16'));
  t.is(await etcd.raw.get(tombstone).string(), '{"forced":1}');
  t.true(store.view.bad.has(tombstone));
});

test.serial('a node with only its state directory compares the time of the removal', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const blue = await store.createNetwork(spec('blue', '10.101.0.0/16'));
  const earlier = new Date(Date.now() - 60_000).toISOString();
  await store.removeNetwork('blue', { force: false });
  t.false(await store.restoreNetwork(blue, undefined, earlier));
  t.true(store.view.removals.has('network blue'));
  t.true(await store.restoreNetwork(blue, undefined, new Date(Date.now() + 60_000).toISOString()));
  await eventually(() => store.view.networks.has('blue'), 'it is back');
  t.is(store.view.removals.size, 0);
});

test.serial('a node removed by force and back in a copy stays removed', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const [agent, witness] = await Promise.all([storeOn(own, '/weft'), storeOn(own, '/weft')]);
  agent.announce(() => record('n1'), quiet);
  await eventually(() => witness.view.alive.has('n1'), 'it is up');
  const copy = await copyOf(own);
  await eventually(() => witness.state.connected && witness.view.alive.has('n1'), 'it is up again');
  await witness.removeNode('n1', { force: true });
  await eventually(() => agent.view.removals.has('node n1'), 'it is out');
  await sleep(1500);
  await own.kill();
  await own.start(copy);
  await eventually(() => witness.state.restored !== undefined, 'the copy is noticed');
  const back = performance.now();
  // The life lease of the copy expires first.
  await eventually(() => witness.view.removals.has('node n1'), 'it is out again', 12_000);
  t.log(`removed again after ${Math.round(performance.now() - back)} ms`);
  await sleep(2500);
  t.deepEqual([...witness.view.nodes.keys(), ...witness.view.alive.keys()], []);
  await Promise.all([agent.close(), witness.close()]);
});

test('a removal is written back after any outage, and given up where etcd refuses it', async (t) => {
  const removal = { kind: 'network', name: 'red', at: new Date().toISOString(), forced: false } as const;
  const attempts = async (fail: (attempt: number) => Error | undefined): Promise<number> => {
    let asked = 0;
    const client = {
      grant: async () => {
        const error = fail(++asked);
        if (error !== undefined) throw error;
        return '7';
      },
      txn: async () => ({ succeeded: true }),
    };
    const context = { client, keys: new Keys('/weft'), log: recordingLog(), now: () => new Date() };
    const lost = [{ removal, key: '/weft/networks/red/config' }];
    await removeAgain(context as unknown as Context, lost, new AbortController().signal, 1);
    return asked;
  };
  t.is(await attempts((attempt) => (attempt <= 100 ? unavailable('away') : undefined)), 101);
  t.is(await attempts(() => resourceExhausted('full')), 30);
});
