// The replica of etcd: complete lists, batches of changes, resyncs, unreadable records.

import test from 'ava';

import { startEtcd, type TestEtcd } from './etcd.js';
import {
  closeStores,
  eventually,
  freshPrefix,
  openTestStore,
  recordingLog,
  storeOn,
  vniOf,
} from './helpers.js';
import { startProxy } from './proxy.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

test('a compaction behind the watch costs one list and reports the difference', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(() => proxy.close());
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
});

test('a list of many pages is one snapshot', async (t) => {
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

test('a transaction is one batch', async (t) => {
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

test('an unreadable record is reported and skipped, and its last readable version stays', async (t) => {
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
    .value('{"Network":"10.100.0.0/16","Backend":{"Type":"ipsec"}}');
  await eventually(() => store.view.bad.has(`${prefix}/networks/blue/config`), 'the network is bad');
  t.true(store.view.networks.has('blue'), 'its last readable state stays');
  const changes: string[] = [];
  store.subscribe((batch) =>
    changes.push(...batch.map((change) => `${change.kind} ${'after' in change ? 'there' : 'gone'}`)),
  );
  await raw
    .put(`${prefix}/networks/blue/config`)
    .value('{"Network":"10.100.0.0/16","Backend":{"Type":"vxlan","VNI":5}}');
  await eventually(() => vniOf(store.view.networks.get('blue')) === 5, 'it is readable again');
  await raw.delete().key(`${prefix}/nodes/huge`);
  await eventually(() => !store.view.bad.has(`${prefix}/nodes/huge`), 'a bad record goes with its key');
  t.deepEqual(changes, ['bad gone', 'network there', 'bad gone']);
  await store.close();
});

test('two keys of one subnet: the first counts, the other is reported and takes over when the first is deleted', async (t) => {
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

test('a store that is closed does not call etcd unreachable', async (t) => {
  const log = recordingLog();
  const store = await storeOn(etcd, freshPrefix(), log);
  await store.close();
  t.deepEqual(
    log.lines.filter(({ level }) => level === 'warn'),
    [],
  );
});

test('a listener that throws does not stop the others', async (t) => {
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
