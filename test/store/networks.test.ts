// Networks in etcd: overlap checks, serialized creation, complete removal.
//
// A lost network is written back only if it was not removed on purpose.
import test from 'ava';

import { IpNetwork } from '../../core/address.js';
import { encodeConfig } from '../../store/network-codec.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { startProxy } from './proxy.js';
import { closeStores, endpoint, eventually, freshPrefix, request, spec, storeOn, vniOf } from './helpers.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

test('the view has a network that etcd has once it was waited for', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await store.seeNetwork('none');
  for (let at = 0; at < 30; at++) {
    const text = JSON.stringify({ Network: `10.${at}.0.0/16`, Backend: { Type: 'vxlan', VNI: 4100 + at } });
    await etcd.raw.put(`${prefix}/networks/n${at}/config`).value(text);
    await store.seeNetwork(`n${at}`);
    t.true(store.view.networks.has(`n${at}`));
  }
  const proxy = await startProxy(etcd.port);
  t.teardown(() => proxy.close());
  const away = await storeOn({ url: proxy.url }, prefix);
  proxy.refuse(true);
  proxy.cut();
  await eventually(() => !away.state.connected, 'the cut is seen');
  await t.throwsAsync(away.seeNetwork('n30'), {
    message: 'network n30 is not known on this node, and etcd does not answer',
  });
});

test('a network gets a VNI of its own, and is in the view when the call returns', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const network = await store.createNetwork(
    spec('blue', '10.100.0.0/16', { subnet6: IpNetwork.parse('fd42:100::/48'), mtu: 1400 }),
  );
  const vni = vniOf(network);
  t.true(vni >= 4096 && vni <= 9999, 'flannel-v6.VNI is a name that a link can have');
  t.is(store.view.networks.get('blue'), network);
  const text = await etcd.raw.get(`${prefix}/networks/blue/config`).string();
  t.deepEqual(JSON.parse(text ?? ''), {
    Network: '10.100.0.0/16',
    SubnetLen: 24,
    EnableIPv6: true,
    IPv6Network: 'fd42:100::/48',
    IPv6SubnetLen: 64,
    Backend: { Type: 'vxlan', VNI: vniOf(network), Port: 8472, MTU: 1450 },
    Weft: { Internal: false, Masquerade: true },
  });
});

test('a conflict names the other network', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await store.createNetwork(spec('blue', '10.100.0.0/16', { vni: 7777 }));
  await etcd.raw
    .put(`${prefix}/nodes/n1`)
    .value('{"instance":"i","publicIp":"192.0.2.1","publicIp6":"2001:db8::1"}');
  await etcd.raw
    .put(`${prefix}/networks/host/config`)
    .value('{"Network":"10.50.0.0/16","Backend":{"Type":"ipsec","VNI":9999}}');
  await etcd.raw.put(`${prefix}/networks/blue/subnets/10.100.5.0-24`).value('{"PublicIP":"198.51.100.7"}');
  await eventually(
    () => store.view.bad.size === 1 && store.view.nodes.size === 1 && store.view.leases.size === 1,
    'all seen',
  );
  const refused = async (more: Parameters<typeof spec>, code: string, why: RegExp) => {
    const error = await t.throwsAsync(store.createNetwork(spec(...more)));
    t.like(error, { code });
    t.regex(error?.message ?? '', why);
  };
  await refused(
    ['red', '10.100.128.0/17'],
    'FAILED_PRECONDITION',
    /red: 10\.100\.128\.0\/17 overlaps network blue \(10\.100\.0\.0\/16\)/,
  );
  await refused(['red', '10.0.0.0/8'], 'FAILED_PRECONDITION', /overlaps network blue/);
  await refused(
    ['red', '192.0.2.0/24'],
    'FAILED_PRECONDITION',
    /contains 192\.0\.2\.1, the underlay address of node n1/,
  );
  await refused(
    ['red', '198.51.100.0/24'],
    'FAILED_PRECONDITION',
    /contains 198\.51\.100\.7, the underlay address of node flanneld at/,
  );
  await refused(
    ['red', '10.101.0.0/16', { subnet6: IpNetwork.parse('2001:db8::/48') }],
    'FAILED_PRECONDITION',
    /2001:db8::1/,
  );
  await refused(
    ['red', '10.50.7.0/24'],
    'FAILED_PRECONDITION',
    /overlaps 10\.50\.0\.0\/16 of network host, which weft does not serve/,
  );
  await refused(
    ['red', '10.101.0.0/16', { vni: 7777 }],
    'FAILED_PRECONDITION',
    /VNI 7777 belongs to network blue/,
  );
  await refused(
    ['red', '10.101.0.0/16', { vni: 9999 }],
    'FAILED_PRECONDITION',
    /VNI 9999 belongs to network host/,
  );
  await refused(['red', '10.101.0.0/16', { vni: 0 }], 'INVALID_ARGUMENT', /vni: 0/);
  await refused(['red', '10.101.0.0/16', { port: 70000 }], 'INVALID_ARGUMENT', /port: 70000/);
  await refused(['red', '10.101.0.0/16', { mtu: 10 }], 'INVALID_ARGUMENT', /mtu: 10/);
  await refused(['red', '10.101.0.0/16', { hostPrefix: 17 }], 'INVALID_ARGUMENT', /host-prefix: 17/);
  await refused(['red', '10.101.0.0/16', { hostPrefix6: 64 }], 'INVALID_ARGUMENT', /host-prefix6/);
  await refused(['r.ed', '10.101.0.0/16'], 'INVALID_ARGUMENT', /r\.ed/);
  await refused(['red', '127.0.0.0/16'], 'INVALID_ARGUMENT', /reserved/);
  const both = IpNetwork.parse('fd00:1::/48');
  await refused(['red', 'fd00::/48', { subnet6: both }], 'INVALID_ARGUMENT', /are no pair/);
  await refused(
    ['blue', '10.100.0.0/16', { vni: 7777 }],
    'ALREADY_EXISTS',
    /blue exists already, exactly as asked for/,
  );
  await refused(['blue', '10.100.0.0/16'], 'ALREADY_EXISTS', /blue exists already, exactly as asked for/);
  await refused(['blue', '10.101.0.0/16'], 'ALREADY_EXISTS', /blue exists already$/);
  await refused(['host', '10.101.0.0/16'], 'ALREADY_EXISTS', /host exists already/);
  t.is(vniOf(await store.createNetwork(spec('red', '10.101.0.0/16', { vni: 16_777_215 }))), 16_777_215);
});

test('twenty networks created at once from several stores get different VNIs', async (t) => {
  const prefix = freshPrefix();
  const stores = await Promise.all([storeOn(etcd, prefix), storeOn(etcd, prefix), storeOn(etcd, prefix)]);
  const since = performance.now();
  const networks = await Promise.all(
    Array.from(
      { length: 20 },
      async (_, i) => await stores[i % 3]!.createNetwork(spec(`net${i}`, `10.${i}.0.0/16`)),
    ),
  );
  t.log(`${Math.round(performance.now() - since)} ms`);
  t.is(new Set(networks.map(vniOf)).size, 20);
  await eventually(() => stores.every((store) => store.view.networks.size === 20), 'all see all');
});

test('of twenty networks that overlap or request one VNI or name, one is created', async (t) => {
  const prefix = freshPrefix();
  const stores = await Promise.all([storeOn(etcd, prefix), storeOn(etcd, prefix), storeOn(etcd, prefix)]);
  const race = async (make: (i: number) => ReturnType<typeof spec>, code: string) => {
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, async (_, i) => await stores[i % 3]!.createNetwork(make(i))),
    );
    t.is(results.filter((result) => result.status === 'fulfilled').length, 1);
    for (const result of results) if (result.status === 'rejected') t.like(result.reason, { code });
  };
  await race((i) => spec(`a${i}`, `10.0.0.0/${8 + (i % 8)}`), 'FAILED_PRECONDITION');
  await race((i) => spec(`b${i}`, `172.16.${i}.0/24`, { vni: 5000 }), 'FAILED_PRECONDITION');
  await race((i) => spec('same', `192.168.${i}.0/24`), 'ALREADY_EXISTS');
});

test('removal: refused with endpoints, complete with force, remembered, cancelled by a new network', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const network = await store.createNetwork(spec('blue', '10.100.0.0/16'));
  await store.acquireLease(request(network, 1));
  await store.putEndpoint(endpoint('blue', 'ab', { name: 'web' }), { unique: true });
  await t.throwsAsync(store.removeNetwork('blue', { force: false }), {
    message: /blue: one endpoint is on it/,
  });
  await t.throwsAsync(store.removeNetwork('red', { force: false }), { message: /red does not exist/ });
  t.true(store.view.networks.has('blue'));
  const batches: number[] = [];
  store.subscribe((changes) => batches.push(changes.length));
  await store.removeNetwork('blue', { force: true });
  t.deepEqual(batches, [4], 'network, lease, endpoint and tombstone in one batch');
  t.deepEqual(Object.keys(await etcd.raw.getAll().prefix(`${prefix}/networks/`).strings()), []);
  const { kvs } = await etcd.raw.kv.range({ key: Buffer.from(`${prefix}/removed/networks/blue`) });
  const ttl = await etcd.raw.leaseClient.leaseTimeToLive({ ID: kvs[0]?.lease ?? '0' });
  t.is(ttl.grantedTTL, '86400');
  t.like(store.view.removals.get('network blue'), { kind: 'network', name: 'blue', forced: true });

  t.false(await store.restoreNetwork(network), 'its removal was wanted');
  await t.throwsAsync(store.acquireLease(request(network, 1)), { message: /blue does not exist any more/ });
  await t.throwsAsync(store.putEndpoint(endpoint('blue', 'cd'), { unique: false }), {
    message: /blue does not exist any more/,
  });
  await store.createNetwork(spec('blue', '10.100.0.0/16'));
  t.is(store.view.removals.size, 0);
});

test('a network lost without a tombstone is written back as it was', async (t) => {
  const prefix = freshPrefix();
  const text = '{ "Network":"10.100.0.0/16", "Extra":[1], "Backend":{"Type":"vxlan","VNI":5} }';
  await etcd.raw.put(`${prefix}/networks/blue/config`).value(text);
  const store = await storeOn(etcd, prefix);
  const network = store.view.networks.get('blue');
  if (network === undefined) return t.fail();
  t.false(await store.restoreNetwork(network), 'it is there');
  await etcd.raw.delete().key(`${prefix}/networks/blue/config`);
  await eventually(() => store.view.networks.size === 0, 'it is lost');
  t.true(await store.restoreNetwork(network));
  t.is(await etcd.raw.get(`${prefix}/networks/blue/config`).string(), text);
  t.is(encodeConfig(network), text);
});

test('an unserved config: creating, changing and removing its network report it', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const key = `${prefix}/networks/blue/config`;
  await etcd.raw.put(key).value('{"Network":"10.50.0.0/16","Backend":{"Type":"ipsec"}}');
  await eventually(() => store.view.bad.has(key), 'it is seen');
  const why = store.view.bad.get(key)?.why ?? '';
  const create = await t.throwsAsync(store.createNetwork(spec('blue', '10.100.0.0/16')));
  const update = await t.throwsAsync(store.updateNetwork('blue', { masquerade: false }));
  const next = `Correct ${key} in etcd, or remove the network: weft network rm blue.`;
  t.like(create, {
    code: 'ALREADY_EXISTS',
    message: `network blue exists already, and its config is not one that weft serves: ${why}`,
    next,
  });
  t.like(update, {
    code: 'FAILED_PRECONDITION',
    message: `network blue: its config is not one that weft serves: ${why}`,
    next,
  });
  await store.removeNetwork('blue', { force: false });
  await eventually(() => store.view.bad.size === 0, 'it is deleted');
  await t.throwsAsync(store.updateNetwork('blue', { masquerade: false }), { code: 'NOT_FOUND' });
});
