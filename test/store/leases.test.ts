// Subnet leases on a real etcd.
//
// Acquired in flannel's order, by fifty nodes at once, kept, renewed and released.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import type { WeftError } from '../../core/errors.js';
import type { Network } from '../../core/network.js';
import type { Store, StoredLease } from '../../store/store.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { closeStores, eventually, freshPrefix, request, spec, storeOn, vniOf } from './helpers.js';

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

async function setUp(more: Parameters<typeof spec>[2] = {}, subnet = '10.100.0.0/16') {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const network = await store.createNetwork(spec('blue', subnet, more));
  const key = (lease: string): string => `${prefix}/networks/blue/subnets/${lease}`;
  const value = async (lease: string) =>
    JSON.parse((await etcd.raw.get(key(lease)).string()) ?? 'null') as Record<string, unknown> | null;
  const all = async () =>
    Object.keys(await etcd.raw.getAll().prefix(key('')).strings()).map((one) => one.slice(key('').length));
  const kv = async (lease: string) => (await etcd.raw.kv.range({ key: Buffer.from(key(lease)) })).kvs[0];
  return { prefix, store, network, key, value, all, kv };
}

const previous = (subnet: string) => ({ previous: { subnet: IpNetwork.parse(subnet) } });

test('a lease is written as flanneld writes it, under an etcd lease of its own', async (t) => {
  const { store, network, value, kv, prefix } = await setUp();
  const lease = await store.acquireLease(
    request(network, 1, { ...previous('10.100.5.0/24'), ttlSeconds: 3600 }),
  );
  t.is(lease.subnet.toString(), '10.100.5.0/24');
  t.deepEqual(await value('10.100.5.0-24'), {
    PublicIP: '192.0.2.1',
    PublicIPv6: null,
    BackendType: 'vxlan',
    BackendData: { VNI: vniOf(network), VtepMAC: '02:00:00:00:00:01' },
    Weft: { Node: 'n1', Instance: 'instance-1', Since: lease.since },
  });
  t.is((await kv('10.100.5.0-24'))?.lease, lease.etcdLease);
  await eventually(() => store.view.leases.get('blue')?.size === 1, 'in the view');
  const seen = store.view.leases.get('blue')?.get('10.100.5.0/24') as StoredLease;
  t.deepEqual(
    [...(await store.leaseTimes([seen])).values()].map((seconds) => seconds > 3590 && seconds <= 3600),
    [true],
  );
  t.truthy(prefix);
});

test('whether a lease is from before its network’s config was last written', async (t) => {
  const { store, network, prefix, key, value } = await setUp();
  const take = (node: number, subnet: string) =>
    store.acquireLease(request(network, node, { ...previous(subnet), ttlSeconds: 60 }));
  const seen = async (subnet: string) => {
    const found = () => store.view.leases.get('blue')?.get(subnet);
    await eventually(() => found() !== undefined, `${subnet} is in the view`);
    return found() as StoredLease;
  };
  const first = await take(1, '10.100.5.0/24');
  t.false(store.predatesConfig(await seen('10.100.5.0/24')));
  await store.updateNetwork('blue', { masquerade: false });
  t.true(store.predatesConfig(first));
  // A renewal writes the key anew, and a node that gives its subnet back and takes it again has it under the new config.
  const renewed = await store.renewLease(first, 120);
  await eventually(
    () => store.view.leases.get('blue')?.get('10.100.5.0/24')?.etcdLease === renewed.etcdLease,
    'renewed',
  );
  t.true(store.predatesConfig(renewed));
  const second = await take(2, '10.100.6.0/24');
  t.false(store.predatesConfig(await seen('10.100.6.0/24')));
  await store.releaseLease(renewed);
  await eventually(() => store.view.leases.get('blue')?.has('10.100.5.0/24') !== true, 'released');
  t.false(store.predatesConfig(renewed), 'there is no such key');
  await take(1, '10.100.5.0/24');
  t.false(store.predatesConfig(await seen('10.100.5.0/24')));

  // By hand, and of a flanneld: its key has the other spelling of the same subnet, or a node that weft does not know.
  const config = `${prefix}/networks/blue/config`;
  const text = (await etcd.raw.get(config).string()) ?? '';
  await etcd.raw.put(config).value(text.replace('"SubnetLen":24', '"SubnetLen":25'));
  await eventually(() => store.view.networks.get('blue')?.hostPrefix === 25, 'the config is read');
  t.true(store.predatesConfig(second));
  const flannel = { ...(await value('10.100.6.0-24')), Weft: undefined };
  await etcd.raw.put(key('10.100.7.0-25')).value(JSON.stringify(flannel));
  t.false(store.predatesConfig(await seen('10.100.7.0/25')));
});

test('dual stack: one key for both families', async (t) => {
  const { store, network, all, value } = await setUp({ subnet6: IpNetwork.parse('fd42:100::/48') });
  const asked = {
    previous: { subnet: IpNetwork.parse('10.100.5.0/24'), subnet6: IpNetwork.parse('fd42:100:0:9::/64') },
  };
  await store.acquireLease(request(network, 1, asked));
  t.deepEqual(await all(), ['10.100.5.0-24&fd42:100:0:9::-64']);
  t.like(await value('10.100.5.0-24&fd42:100:0:9::-64'), {
    PublicIPv6: '2001:db8::1',
    BackendV6Data: { VNI: vniOf(network), VtepMAC: '02:00:00:00:06:01' },
  });
});

test('a key spelt with "-" is read, and rewritten as flanneld reads it', async (t) => {
  const { store, network, all, key } = await setUp({ subnet6: IpNetwork.parse('fd42:100::/48') });
  await etcd.raw
    .put(key('10.100.5.0-24&fd42-100-0-5---64'))
    .value('{"PublicIP":"192.0.2.1","BackendType":"vxlan"}');
  const lease = await store.acquireLease(request(network, 1));
  t.is(lease.subnet6?.toString(), 'fd42:100:0:5::/64');
  t.deepEqual(await all(), ['10.100.5.0-24&fd42:100:0:5::-64']);
});

test('fifty nodes at once each get a subnet of their own, within the time limit', async (t) => {
  const { prefix, network, all } = await setUp();
  const stores = await Promise.all(Array.from({ length: 5 }, async () => await storeOn(etcd, prefix)));
  const since = performance.now();
  const leases = await Promise.all(
    Array.from(
      { length: 50 },
      async (_, i) => await (stores[i % 5] as Store).acquireLease(request(network, i + 1)),
    ),
  );
  t.log(`${Math.round(performance.now() - since)} ms`);
  t.is(new Set(leases.map((lease) => lease.subnet.toString())).size, 50);
  t.is((await all()).length, 50);
});

test('fifty nodes at once fit into exactly fifty subnets, in both families', async (t) => {
  // 64 IPv4 subnets less the first, but only 63 IPv6 ones, which must be allocated without a conflict.
  const { network, store, all } = await setUp(
    { subnet6: IpNetwork.parse('fd42:100::/58'), hostPrefix: 22 },
    '10.100.0.0/16',
  );
  const asked = Array.from({ length: 63 }, async (_, i) => await store.acquireLease(request(network, i + 1)));
  const leases = await Promise.all(asked);
  t.is(new Set(leases.map((lease) => lease.subnet.toString())).size, 63);
  t.is(new Set(leases.map((lease) => lease.subnet6?.toString())).size, 63);
  t.is((await all()).length, 63);
  await t.throwsAsync(store.acquireLease(request(network, 99)), { message: /blue: no \/22 is left/ });
});

test('IPv6 subnets that race for one number do not share it', async (t) => {
  // flannel's own choice of the IPv6 half is free of the IPv4 half; two previous subnets can ask for one.
  const { network, store, all } = await setUp({ subnet6: IpNetwork.parse('fd42:100::/48') });
  const leases = await Promise.all(
    Array.from(
      { length: 10 },
      async (_, i) =>
        await store.acquireLease(
          request(network, i + 1, {
            previous: {
              subnet: IpNetwork.parse(`10.100.${i + 1}.0/24`),
              subnet6: IpNetwork.parse('fd42:100:0:77::/64'),
            },
          }),
        ),
    ),
  );
  t.is(new Set(leases.map((lease) => lease.subnet6?.toString())).size, 10);
  t.is((await all()).length, 10);
});

test('a flanneld’s lease with this address is continued', async (t) => {
  const { store, network, key, all } = await setUp();
  const granted = await etcd.raw.leaseClient.leaseGrant({ TTL: 100 });
  await etcd.raw.kv.put({
    key: Buffer.from(key('10.100.9.0-24')),
    value: Buffer.from(
      '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:11:11:11:11:11"}}',
    ),
    lease: granted.ID,
  });
  const lease = await store.acquireLease(request(network, 1, previous('10.100.5.0/24')));
  t.is(lease.subnet.toString(), '10.100.9.0/24');
  t.false(lease.reservation);
  t.deepEqual(await all(), ['10.100.9.0-24']);
});

test('a lease that does not fit the network is deleted and another acquired', async (t) => {
  const { store, network, key, all } = await setUp();
  const granted = await etcd.raw.leaseClient.leaseGrant({ TTL: 100 });
  for (const subnet of ['10.100.0.0-24', '10.100.9.0-25', '10.77.1.0-24']) {
    await etcd.raw.kv.put({
      key: Buffer.from(key(subnet)),
      value: Buffer.from('{"PublicIP":"192.0.2.1"}'),
      lease: granted.ID,
    });
  }
  const lease = await store.acquireLease(request(network, 1, previous('10.100.5.0/24')));
  t.is(lease.subnet.toString(), '10.100.5.0/24');
  t.deepEqual(await all(), ['10.100.5.0-24']);
});

test('a changed address keeps the subnet, and so does a new instance of a dead node', async (t) => {
  const { store, network, all, value } = await setUp();
  const first = await store.acquireLease(request(network, 1));
  const name = first.subnet.toString().replace('/', '-');
  const moved = await store.acquireLease(request(network, 1, { publicIp: IpAddress.parse('192.0.2.200') }));
  t.is(moved.subnet.toString(), first.subnet.toString());
  t.like(await value(name), { PublicIP: '192.0.2.200' });
  const reborn = await store.acquireLease(
    request(network, 1, { instance: 'another', publicIp: IpAddress.parse('192.0.2.201') }),
  );
  t.is(reborn.subnet.toString(), first.subnet.toString());
  t.like(await value(name), { Weft: { Node: 'n1', Instance: 'another' } });
  t.is((await all()).length, 1);
});

test('a reservation is used, and stays a reservation', async (t) => {
  const { store, network, key, kv } = await setUp();
  await etcd.raw.put(key('10.100.42.0-24')).value('{"PublicIP":"192.0.2.1"}');
  const lease = await store.acquireLease(request(network, 1));
  t.is(lease.subnet.toString(), '10.100.42.0/24');
  t.true(lease.reservation);
  t.is((await kv('10.100.42.0-24'))?.lease, '0');
  const renewed = await store.renewLease(lease, 60);
  t.true(renewed.reservation);
  t.is((await kv('10.100.42.0-24'))?.lease, '0');
  await store.releaseLease(lease);
  t.truthy(await kv('10.100.42.0-24'), 'a release leaves it');
  const other = await store.acquireLease(request(network, 2, previous('10.100.42.0/24')));
  t.not(other.subnet.toString(), '10.100.42.0/24', 'no other node gets it');
});

test('a reservation that does not fit is kept, and another subnet acquired', async (t) => {
  const { store, network, key, all } = await setUp();
  await etcd.raw.put(key('10.100.42.0-25')).value('{"PublicIP":"192.0.2.1"}');
  const lease = await store.acquireLease(request(network, 1, previous('10.100.42.0/24')));
  t.not(lease.subnet.toString(), '10.100.42.0/24');
  t.is((await all()).length, 2);
});

test('an unreadable lease still occupies its subnet', async (t) => {
  const { store, network, key } = await setUp();
  await etcd.raw.put(key('10.100.42.0-24')).value('rubbish');
  const lease = await store.acquireLease(request(network, 1, previous('10.100.42.0/24')));
  t.not(lease.subnet.toString(), '10.100.42.0/24');
});

test('an address or name of another living node is refused, naming both', async (t) => {
  const { store, network, prefix } = await setUp();
  await store.acquireLease(request(network, 2));
  await etcd.raw.put(`${prefix}/nodes/n2/alive`).value('instance-2');
  const sameAddress = await t.throwsAsync(
    store.acquireLease(request(network, 1, { publicIp: IpAddress.parse('192.0.2.2') })),
  );
  t.like(sameAddress, { code: 'FAILED_PRECONDITION' });
  t.regex(sameAddress?.message ?? '', /n2 and n1 have the same underlay address 192\.0\.2\.2/);
  const sameName = await t.throwsAsync(store.acquireLease(request(network, 1, { node: 'n2' })));
  t.like(sameName, { code: 'FAILED_PRECONDITION' });
  t.regex(
    sameName?.message ?? '',
    /another node that is named n2 too, at 192\.0\.2\.2; this one is at 192\.0\.2\.1/,
  );
  await etcd.raw.delete().key(`${prefix}/nodes/n2/alive`);
  const taken = await store.acquireLease(request(network, 1, { publicIp: IpAddress.parse('192.0.2.2') }));
  t.is(taken.node, 'n1', 'a dead one’s is taken over, as flannel does');
});

test('a cloned machine is refused while the other one is alive, naming both', async (t) => {
  const { store, network, prefix, value } = await setUp();
  const first = await store.acquireLease(request(network, 1));
  await etcd.raw.put(`${prefix}/nodes/n1/alive`).value('instance-1');
  const copy = request(network, 2, { instance: 'instance-1' });
  const error = await t.throwsAsync(store.acquireLease(copy));
  t.like(error, { code: 'FAILED_PRECONDITION' });
  t.regex(error?.message ?? '', /nodes n1 and n2 have the same instance id/);
  t.regex((error as WeftError).next ?? '', /`instance`/);
  await etcd.raw.delete().key(`${prefix}/nodes/n1/alive`);
  const renamed = await store.acquireLease(copy);
  t.is(renamed.subnet.toString(), first.subnet.toString(), 'a node that was renamed keeps its subnet');
  // The previous one is back after a cut, and must not overwrite it.
  await t.throwsAsync(store.renewLease(first, 60), { message: /has been taken by node n2/ });
  t.like(await value(first.subnet.toString().replace('/', '-')), { Weft: { Node: 'n2' } });
});

test('two living nodes that swap their addresses keep their subnets', async (t) => {
  const { store, network, prefix, all } = await setUp();
  const subnets: string[] = [];
  for (const number of [1, 2]) {
    subnets.push((await store.acquireLease(request(network, number))).subnet.toString());
    await etcd.raw.put(`${prefix}/nodes/n${number}/alive`).value(`instance-${number}`);
  }
  const swapped = [1, 2].map((number) => ({ publicIp: IpAddress.parse(`192.0.2.${3 - number}`) }));
  const first = await store.acquireLease(request(network, 1, swapped[0]));
  const second = await store.acquireLease(request(network, 2, swapped[1]));
  t.deepEqual([first.subnet.toString(), second.subnet.toString()], subnets);
  t.deepEqual([first.publicIp.toString(), second.publicIp.toString()], ['192.0.2.2', '192.0.2.1']);
  t.is((await all()).length, 2);
});

test('renewal: a new etcd lease for the same subnet, also after the key was lost', async (t) => {
  const { store, network, key, kv, value } = await setUp();
  const lease = await store.acquireLease(request(network, 1));
  const name = lease.subnet.toString().replace('/', '-');
  const renewed = await store.renewLease(lease, 100);
  t.not(renewed.etcdLease, lease.etcdLease);
  t.is((await kv(name))?.lease, renewed.etcdLease);
  await eventually(
    async () => (await etcd.raw.leaseClient.leaseTimeToLive({ ID: lease.etcdLease })).TTL === '-1',
    'the old one is given back',
  );
  await etcd.raw.delete().key(key(name));
  const again = await store.renewLease(renewed, 100);
  t.is((await kv(name))?.lease, again.etcdLease);
  // Turned into a reservation by hand: written without an etcd lease.
  await etcd.raw.put(key(name)).value(JSON.stringify(await value(name)));
  t.true((await store.renewLease(again, 100)).reservation);
  t.is((await kv(name))?.lease, '0');
  await etcd.raw.put(key(name)).value('{"PublicIP":"192.0.2.77"}');
  await t.throwsAsync(store.renewLease(again, 100), {
    message: /has been taken by the flanneld at 192\.0\.2\.77/,
  });
});

test('release deletes the node’s own lease only', async (t) => {
  const { store, network, key, all } = await setUp();
  const lease = await store.acquireLease(request(network, 1));
  await store.releaseLease(lease);
  t.deepEqual(await all(), []);
  await store.releaseLease(lease);
  const other = await store.acquireLease(request(network, 2));
  const name = other.subnet.toString().replace('/', '-');
  await etcd.raw.put(key(name)).value('{"PublicIP":"192.0.2.77"}');
  await store.releaseLease(other);
  t.deepEqual(await all(), [name]);
});

test('the remaining times of many leases are read', async (t) => {
  const { store, network } = await setUp();
  const leases = await Promise.all(
    Array.from({ length: 40 }, async (_, i) => await store.acquireLease(request(network, i + 1))),
  );
  const times = await store.leaseTimes([
    ...leases,
    { ...leases[0]!, etcdLease: '0' },
    { ...leases[0]!, etcdLease: '12345' },
  ]);
  t.is(times.size, 40);
});

test('without etcd a lease is refused with the reason', async (t) => {
  const own = await startEtcd();
  t.teardown(() => own.stop());
  const store = await storeOn(own, '/weft');
  const network: Network = await store.createNetwork(spec('blue', '10.100.0.0/16'));
  await own.kill();
  const since = performance.now();
  const error = await t.throwsAsync(store.acquireLease(request(network, 1)));
  t.like(error, { code: 'UNAVAILABLE' });
  t.regex(error?.message ?? '', new RegExp(`etcd at ${own.url} does not answer`));
  t.true(performance.now() - since < 3000);
});

test('a subnet in use is reclaimed from a later owner only', async (t) => {
  const { store, network } = await setUp();
  const asked = previous('10.100.42.0/24');
  const newcomer = await store.acquireLease(request(network, 2, asked));
  const older = { ...asked, since: '2026-01-01T00:00:00.000Z' };
  const elsewhere = await store.acquireLease(request(network, 1, older));
  t.not(elsewhere.subnet.toString(), '10.100.42.0/24', 'nothing runs in it');
  await store.releaseLease(elsewhere);
  const back = await store.acquireLease(request(network, 1, { ...older, inUse: true }));
  t.is(back.subnet.toString(), '10.100.42.0/24');
  t.is(back.since, older.since);
  const moved = await store.acquireLease(
    request(network, 2, { ...asked, since: newcomer.since ?? '', inUse: true }),
  );
  t.not(moved.subnet.toString(), '10.100.42.0/24', 'the younger one gives way');
});

// Serial, because the two must collide: beside the fifty nodes above each would wait its turn for etcd.
test.serial('a concurrent renewal does not make a node acquire a second subnet', async (t) => {
  const { store, network, all } = await setUp();
  const asked = request(network, 1);
  let lease = await store.acquireLease(asked);
  const only = `${lease.subnet.base.toString()}-24`;
  for (let round = 0; round < 10; round++) {
    [lease] = await Promise.all([store.acquireLease(asked), store.renewLease(lease, 60)]);
    t.is(`${lease.subnet.base.toString()}-24`, only);
    t.deepEqual(await all(), [only]);
  }
});

test.serial(
  'a concurrent renewal by the newcomer does not keep a node from reclaiming its subnet',
  async (t) => {
    const { store, network } = await setUp();
    const asked = { ...previous('10.100.42.0/24'), since: '2026-01-01T00:00:00.000Z', inUse: true };
    for (let round = 0; round < 10; round++) {
      const newcomer = await store.acquireLease(request(network, 2, previous('10.100.42.0/24')));
      const [back] = await Promise.all([
        store.acquireLease(request(network, 1, asked)),
        store.renewLease(newcomer, 60).catch(() => undefined),
      ]);
      t.is(back.subnet.toString(), '10.100.42.0/24');
      await store.releaseLease(back);
    }
  },
);

test('an older lease of the same node does not replace the subnet in use', async (t) => {
  const { store, network, all } = await setUp();
  const at = (subnet: string, more: object = {}) => request(network, 1, { ...previous(subnet), ...more });
  const inUse = at('10.100.77.0/24', { since: '2026-01-01T00:00:00.000Z', inUse: true });
  // As in a restored copy: the subnet before the last one, which no container uses any more.
  await store.acquireLease(at('10.100.5.0/24'));
  t.is((await store.acquireLease(inUse)).subnet.toString(), '10.100.77.0/24');
  t.deepEqual(await all(), ['10.100.77.0-24'], 'the older one is given back');
});

test('a node gives up its older lease for a subnet in use that another node got later', async (t) => {
  const { store, network, all } = await setUp();
  const asked = previous('10.100.77.0/24');
  await store.acquireLease(request(network, 1, previous('10.100.5.0/24')));
  const newcomer = await store.acquireLease(request(network, 2, asked));
  const later = { ...asked, since: '9999-01-01T00:00:00.000Z', inUse: true };
  const kept = await store.acquireLease(request(network, 1, later));
  t.is(kept.subnet.toString(), '10.100.5.0/24', 'who has had it for longer keeps it');
  const earlier = { ...asked, since: '2026-01-01T00:00:00.000Z' };
  const idle = await store.acquireLease(request(network, 1, earlier));
  t.is(idle.subnet.toString(), '10.100.5.0/24', 'nothing runs in it');
  const back = await store.acquireLease(request(network, 1, { ...earlier, inUse: true }));
  t.is(back.subnet.toString(), newcomer.subnet.toString());
  t.deepEqual(await all(), ['10.100.77.0-24']);
});

test('a lost config is written back together with its writer’s subnet', async (t) => {
  const { store, network, kv, prefix } = await setUp();
  const asked = request(network, 1, { ...previous('10.100.42.0/24'), since: '2026-01-01T00:00:00.000Z' });
  await etcd.raw.delete().prefix(`${prefix}/networks/`);
  t.true(await store.restoreNetwork(network, asked));
  const there = await kv('10.100.42.0-24');
  t.regex(there?.value.toString() ?? '', /"Instance":"instance-1","Since":"2026-01-01/);
  t.not(there?.lease, '0', 'it is no reservation');
  t.false(await store.restoreNetwork(network, asked), 'it is there');
});
