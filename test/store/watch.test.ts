// The watch under everything that can happen to it: cut under load, stalled, compacted behind, restored, emptied. What it
// delivers is counted event by event, and what the view ends up with is compared with etcd.
import { cpSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import type { IEvent, IKeyValue } from 'etcd3';

import { EtcdClient } from '../../store/client.js';
import { Keys } from '../../store/keys.js';
import { decodeConfig } from '../../store/network-codec.js';
import type { Store } from '../../store/store.js';
import { Watcher } from '../../store/watcher.js';
import { startEtcd, temporaryFolder, type TestEtcd } from './etcd.js';
import { closeStores, eventually, freshPrefix, openTestStore, recordingLog, storeOn } from './helpers.js';
import { startProxy } from './proxy.js';

/** Follows a prefix by its bare bytes and counts. */
function follow(url: string, prefix: string) {
  const log = recordingLog();
  const keys = new Keys(prefix);
  const state = new Map<string, string>();
  /** Of each key, every revision that was delivered as an event, in order. */
  const seen = new Map<string, number[]>();
  const order: number[] = [];
  let lists = 0;
  let up = false;
  const client = new EtcdClient([url], undefined, keys.allocated(), log, () => undefined);
  const watcher = new Watcher(
    client,
    keys.all(),
    {
      list: (kvs: readonly IKeyValue[]) => {
        lists++;
        state.clear();
        for (const kv of kvs) state.set(kv.key.toString(), kv.value.toString());
      },
      events: (events: readonly IEvent[]) => {
        for (const { type, kv } of events) {
          const key = kv.key.toString();
          order.push(Number(kv.mod_revision));
          seen.set(key, [...(seen.get(key) ?? []), Number(kv.mod_revision)]);
          if (type === 'Put') state.set(key, kv.value.toString());
          else state.delete(key);
        }
      },
      connected: (now: boolean) => (up = now),
    },
    log,
  );
  return {
    log,
    state,
    seen,
    order,
    get lists() {
      return lists;
    },
    get up() {
      return up;
    },
    close: async () => {
      await watcher.close();
      await client.close();
    },
  };
}

/** Writes and deletes at random and answers, of each key, the revisions of all that it did. */
async function churn(etcd: TestEtcd, prefix: string, count: number): Promise<Map<string, number[]>> {
  const done = new Map<string, number[]>();
  const note = (key: string, revision: string): void =>
    void done.set(key, [...(done.get(key) ?? []), Number(revision)]);
  const there = new Set<string>();
  let left = count;
  const writer = async (name: string): Promise<void> => {
    while (left-- > 0) {
      const key = `${prefix}/x/${name}${left % 37}`;
      if (there.has(key) && left % 4 === 0) {
        const { header } = await etcd.raw.kv.deleteRange({ key: Buffer.from(key) });
        there.delete(key);
        note(key, header.revision);
      } else {
        const { header } = await etcd.raw.kv.put({ key: Buffer.from(key), value: Buffer.from(`${left}`) });
        there.add(key);
        note(key, header.revision);
      }
    }
  };
  await Promise.all(Array.from({ length: 20 }, async (_, i) => await writer(`w${i}-`)));
  return done;
}

async function compare(
  t: ExecutionContext,
  etcd: TestEtcd,
  prefix: string,
  state: Map<string, string>,
): Promise<void> {
  const there = await etcd.raw.getAll().prefix(`${prefix}/`).strings();
  t.deepEqual(Object.fromEntries(state), there);
}

const increasing = (numbers: readonly number[]): boolean =>
  numbers.every((one, i) => i === 0 || one > (numbers[i - 1] ?? 0));

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

test.serial('cut again and again under load, nothing is missed and nothing comes twice', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  const watch = follow(proxy.url, prefix);
  await eventually(() => watch.up, 'the watch runs');
  const churning = churn(etcd, prefix, 6000);
  let running = true;
  const cutting = (async () => {
    while (running) {
      await sleep(30 + Math.random() * 150);
      proxy.cut();
    }
  })();
  const done = await churning;
  running = false;
  await cutting;
  const last = Math.max(...[...done.values()].flat());
  await eventually(() => watch.order.at(-1) === last, 'the last event', 10_000);
  await compare(t, etcd, prefix, watch.state);
  t.is(watch.lists, 1, 'it never had to list again');
  for (const [key, revisions] of done)
    t.deepEqual(
      watch.seen.get(key),
      revisions.sort((a, b) => a - b),
      key,
    );
  t.true(increasing(watch.order));
  await watch.close();
  await proxy.close();
});

test.serial(
  'thousands of events while cut off come in one go, also where the catching up is cut',
  async (t) => {
    const prefix = freshPrefix();
    const proxy = await startProxy(etcd.port);
    const watch = follow(proxy.url, prefix);
    await eventually(() => watch.up, 'the watch runs');
    proxy.refuse(true);
    proxy.cut();
    await eventually(() => !watch.up, 'the cut is seen');
    const done = await churn(etcd, prefix, 5000);
    const last = Math.max(...[...done.values()].flat());
    proxy.refuse(false);
    const since = performance.now();
    while (watch.order.at(-1) !== last) {
      if (performance.now() - since > 15_000) break;
      await sleep(watch.order.length === 0 ? 1 : 25);
      if (performance.now() - since < 3000 && watch.order.length > 0) proxy.cut();
    }
    for (const [key, revisions] of done)
      t.deepEqual(
        watch.seen.get(key),
        revisions.sort((a, b) => a - b),
        key,
      );
    await compare(t, etcd, prefix, watch.state);
    t.is(watch.lists, 1);
    await watch.close();
    await proxy.close();
  },
);

test.serial('compacted behind the watch: one list, the difference, and on', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  const log = recordingLog();
  const store = openTestStore([proxy.url], prefix, log);
  await store.synced();
  const put = async (name: string, ip: string) =>
    await etcd.raw.put(`${prefix}/nodes/${name}`).value(JSON.stringify({ instance: name, publicIp: ip }));
  await put('stays', '192.0.2.1');
  await put('changes', '192.0.2.2');
  await put('goes', '192.0.2.3');
  await eventually(() => store.view.nodes.size === 3 && store.state.connected, 'three nodes');
  proxy.refuse(true);
  proxy.cut();
  await eventually(() => !store.state.connected, 'the cut is seen');
  await put('changes', '192.0.2.22');
  await put('comes', '192.0.2.4');
  const { header } = await etcd.raw.kv.deleteRange({ key: Buffer.from(`${prefix}/nodes/goes`) });
  await etcd.raw.kv.compact({ revision: header.revision });
  const changes: string[] = [];
  store.subscribe((batch) => {
    for (const change of batch) {
      if (change.kind !== 'node') continue;
      const how = change.after === undefined ? 'gone' : change.before === undefined ? 'new' : 'changed';
      changes.push(`${change.name} ${how} ${change.after?.publicIp ?? change.before?.publicIp ?? ''}`);
    }
  });
  proxy.refuse(false);
  await eventually(() => store.state.connected, 'it is back', 3000);
  t.deepEqual(changes.sort(), ['changes changed 192.0.2.22', 'comes new 192.0.2.4', 'goes gone 192.0.2.3']);
  t.is(store.state.resyncs, 1);
  await put('later', '192.0.2.5');
  await eventually(() => store.view.nodes.has('later'), 'it goes on');
  t.is(store.state.resyncs, 1);
  await store.close();
  await proxy.close();
});

test.serial('a list of many pages is one picture', async (t) => {
  const prefix = freshPrefix();
  const keys = Array.from({ length: 2500 }, (_, i) => `${prefix}/nodes/n${i}`);
  for (let at = 0; at < keys.length; at += 100) {
    await etcd.raw.kv.txn({
      success: keys.slice(at, at + 100).map((key) => ({
        request_put: { key: Buffer.from(key), value: Buffer.from('{"instance":"i","publicIp":"192.0.2.1"}') },
      })),
    });
  }
  const store = await storeOn(etcd, prefix);
  t.is(store.view.nodes.size, 2500);
  await store.close();
});

test.serial('a transaction is one batch', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await eventually(() => store.state.connected, 'the watch runs');
  const sizes: number[] = [];
  store.subscribe((changes) => sizes.push(changes.length));
  const node = Buffer.from('{"instance":"i","publicIp":"192.0.2.1"}');
  await etcd.raw.kv.txn({
    success: Array.from({ length: 100 }, (_, i) => ({
      request_put: { key: Buffer.from(`${prefix}/nodes/n${i}`), value: node },
    })),
  });
  await eventually(() => store.view.nodes.size === 100, 'all there');
  t.deepEqual(sizes, [100]);
  await store.close();
});

test.serial('a stalled etcd is found within 5 s, told once, and left alone until it answers', async (t) => {
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
    ['etcd connected', 'etcd is away; weft goes on with what it knows', 'etcd connected'],
  );
  await store.close();
});

test.serial('a black hole on the way is found, and the end of it', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
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
  await proxy.close();
});

test.serial('killed for a while, everything is back within a second of its return', async (t) => {
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

/** Writes, copies the data, writes on, and comes back with the copy. */
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

test.serial('restored from an older copy: the copy is the truth', async (t) => {
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

test.serial('restored from an older copy that has grown past the old revision meanwhile', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const proxy = await startProxy(own.port);
  t.teardown(async () => await proxy.close());
  const store = openTestStore([proxy.url], '/weft');
  await store.synced();
  await restored(own, store, '/weft', async (copy) => {
    proxy.refuse(true);
    await own.start(copy);
    // Another past of the same length and more.
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

test.serial('etcd emptied: all records go, and are told as gone', async (t) => {
  const own = await startEtcd();
  t.teardown(async () => await own.stop());
  const store = await storeOn(own, '/weft');
  await own.raw.put('/weft/nodes/old').value('{"instance":"old","publicIp":"192.0.2.1"}');
  await eventually(() => store.view.nodes.size === 1, 'one node');
  const gone: string[] = [];
  store.subscribe((changes) =>
    gone.push(...changes.map((change) => `${change.kind} ${'after' in change ? 'there' : 'gone'}`)),
  );
  await own.kill();
  await own.start(path.join(temporaryFolder('empty'), 'data'));
  await eventually(() => store.view.nodes.size === 0, 'it is gone', 3000);
  t.deepEqual(gone, ['node gone']);
  await store.close();
});

test.serial('another server is taken where one does not answer', async (t) => {
  const prefix = freshPrefix();
  const proxies = await Promise.all([startProxy(etcd.port), startProxy(etcd.port), startProxy(etcd.port)]);
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
  await Promise.all(proxies.map(async (proxy) => await proxy.close()));
});

const net = decodeConfig('blue', '{"Network":"10.100.0.0/16","Backend":{"Type":"vxlan"}}');

test.serial('what cannot be read is reported and skipped, and what worked before stays', async (t) => {
  const prefix = freshPrefix();
  const raw = etcd.raw;
  await raw
    .put(`${prefix}/networks/blue/config`)
    .value('{"Network":"10.100.0.0/16","Backend":{"Type":"vxlan"}}');
  await raw.put(`${prefix}/networks/udp/config`).value('{"Network":"10.99.0.0/16"}');
  await raw
    .put(`${prefix}/networks/blue/subnets/10.100.5.0-24`)
    .value('{"PublicIP":"192.0.2.1","BackendType":"vxlan"}');
  await raw.put(`${prefix}/networks/blue/subnets/rubbish`).value('{}');
  await raw.put(`${prefix}/networks/blue/endpoints/ab`).value(Buffer.from([0xff, 0x00, 0x80]));
  await raw.put(`${prefix}/nodes/huge`).value(`{"instance":"${'x'.repeat(1_000_000)}"}`);
  await raw.put(`${prefix}/nodes/n1`).value('{"instance":7}');
  await raw.put(`${prefix}/removed/networks/old`).value('true');
  await raw.put(`${prefix}/else/what`).value('ever');
  const log = recordingLog();
  const store = await storeOn(etcd, prefix, log);
  const bad = () => [...store.view.bad.keys()].map((key) => key.slice(prefix.length + 1)).sort();
  t.deepEqual(bad(), [
    'networks/blue/endpoints/ab',
    'networks/blue/subnets/rubbish',
    'networks/udp/config',
    'nodes/huge',
    'nodes/n1',
    'removed/networks/old',
  ]);
  t.regex(store.view.bad.get(`${prefix}/nodes/n1`)?.why ?? '', /instance: 7; expected text/);
  t.deepEqual([...store.view.networks.keys()], ['blue']);
  t.is(store.view.leases.get('blue')?.size, 1);

  await raw
    .put(`${prefix}/networks/blue/config`)
    .value('{"Network":"10.100.0.0/16","Backend":{"Type":"udp"}}');
  await eventually(() => store.view.bad.has(`${prefix}/networks/blue/config`), 'the network is bad');
  t.true(store.view.networks.has('blue'), 'its last readable state stays');
  const changes: string[] = [];
  store.subscribe((batch) =>
    changes.push(...batch.map((change) => `${change.kind} ${'after' in change ? 'there' : 'gone'}`)),
  );
  await raw
    .put(`${prefix}/networks/blue/config`)
    .value('{"Network":"10.100.0.0/16","Backend":{"Type":"vxlan","VNI":5}}');
  await eventually(() => store.view.networks.get('blue')?.vni === 5, 'it is readable again');
  await raw.delete().key(`${prefix}/nodes/huge`);
  await eventually(() => !store.view.bad.has(`${prefix}/nodes/huge`), 'a bad record goes with its key');
  t.deepEqual(changes, ['bad gone', 'network there', 'bad gone']);
  await store.close();
});

test.serial('two keys of one subnet: the first counts, the other is reported and takes over', async (t) => {
  const prefix = freshPrefix();
  const subnets = `${prefix}/networks/blue/subnets`;
  const store = await storeOn(etcd, prefix);
  await etcd.raw.put(`${subnets}/10.100.5.0-24`).value('{"PublicIP":"192.0.2.1"}');
  await etcd.raw.put(`${subnets}/10.100.5.0-24&fd42:100:0:5::-64`).value('{"PublicIP":"192.0.2.2"}');
  await eventually(() => store.view.bad.size === 1, 'the second is bad');
  t.is(store.view.leases.get('blue')?.get('10.100.5.0/24')?.publicIp.toString(), '192.0.2.1');
  await etcd.raw.delete().key(`${subnets}/10.100.5.0-24`);
  await eventually(
    () => store.view.leases.get('blue')?.get('10.100.5.0/24')?.publicIp.toString() === '192.0.2.2',
    'the second',
  );
  t.is(store.view.bad.size, 0);
  await store.close();
});

test.serial('a listener that throws stops nobody', async (t) => {
  const prefix = freshPrefix();
  const log = recordingLog();
  const store = await storeOn(etcd, prefix, log);
  store.subscribe(() => {
    throw new Error('mine');
  });
  let heard = 0;
  store.subscribe(() => heard++);
  await etcd.raw.put(`${prefix}/nodes/n1`).value('{"instance":"i","publicIp":"192.0.2.1"}');
  await eventually(() => heard === 1, 'the other one hears');
  t.true(log.lines.some((line) => line.level === 'error'));
  await store.close();
});
