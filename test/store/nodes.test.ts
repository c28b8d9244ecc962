// Nodes, life leases, unique names, removals and elections on a real etcd.
//
// Life leases survive outages and conflicts, removals are complete, elections go on.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import type { NodeRecord } from '../../core/records.js';
import type { Store } from '../../store/store.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import {
  closeStores,
  endpoint,
  eventually,
  freshPrefix,
  openTestStore,
  request,
  spec,
  storeOn,
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

const node = (name: string, more: Partial<NodeRecord> = {}): NodeRecord => ({
  name,
  instance: `instance-of-${name}`,
  publicIp: '192.0.2.1',
  version: '0.1.0',
  startedAt: '2026-11-21T00:00:00Z',
  ...more,
});
type Requests = Record<string, number>;

/** Messages that etcd has received, by the method of its services. */
async function requestsOf({ url }: TestEtcd): Promise<Requests> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const lines = text.matchAll(/^grpc_server_msg_received_total\{grpc_method="(\w+)".*\} (\d+)$/gm);
  return Object.fromEntries([...lines].map(([, method, count]) => [method, Number(count)]));
}

const quiet = { ttlSeconds: 3, onConflict: () => undefined };

test.serial('a node is announced, kept alive, rewritten, and down at once when it stops', async (t) => {
  const store = await storeOn(etcd, freshPrefix());
  let record = node('n1');
  const announcement = store.announce(() => record, quiet);
  await eventually(() => store.view.alive.get('n1') === record.instance, 'alive');
  t.deepEqual(store.view.nodes.get('n1'), record);
  const lost: string[] = [];
  store.subscribe((changes) => {
    for (const change of changes)
      if (change.kind === 'alive' && change.after === undefined) lost.push(change.name);
  });
  const before = await requestsOf(etcd);
  await sleep(6000);
  t.deepEqual(lost, [], 'kept for longer than its TTL');
  const asked = Object.entries(await requestsOf(etcd)).map(([method, n]) => [
    method,
    n - (before[method] ?? 0),
  ]);
  const { LeaseKeepAlive: renewals = 0, ...rest } = Object.fromEntries(
    asked.filter(([, n]) => n !== 0),
  ) as Requests;
  t.true(renewals >= 3 && renewals <= 4, `one renewal in half of the time, not ${renewals}`);
  t.deepEqual(rest, {}, 'and nothing else, at rest');
  record = node('n1', { publicIp: '192.0.2.9' });
  announcement.refresh();
  await eventually(() => store.view.nodes.get('n1')?.publicIp === '192.0.2.9', 'written again');
  await announcement.stop();
  await eventually(() => !store.view.alive.has('n1'), 'down', 500);
  t.true(store.view.nodes.has('n1'), 'the record stays');
});

test.serial('a node that waits writes nothing, but its name is checked; it may also stop then', async (t) => {
  const prefix = freshPrefix();
  const [store, other] = await Promise.all([storeOn(etcd, prefix), storeOn(etcd, prefix)]);
  const holder = other.announce(() => node('n2', { instance: 'b', publicIp: '192.0.2.8' }), quiet);
  await eventually(() => store.view.alive.has('n2'), 'the other is alive');
  let begin = (): void => undefined;
  const after = new Promise<void>((resolve) => (begin = resolve));
  const announcement = store.announce(() => node('n2'), { ...quiet, after });
  t.throws(() => store.checkName(), { message: /the name n2 is another node's/ });
  await announcement.stop();
  const own = store.announce(() => node('n1'), { ...quiet, after });
  const later = other.announce(() => node('n3'), quiet);
  await eventually(() => store.view.alive.has('n3'), 'one that was announced later is alive');
  t.false(store.view.nodes.has('n1'));
  begin();
  await eventually(() => store.view.alive.has('n1'), 'it appears');
  await Promise.all([own, holder, later].map((one) => one.stop()));
});

test.serial(
  'a node’s record is written back within a second where somebody else has changed it',
  async (t) => {
    const prefix = freshPrefix();
    const store = await storeOn(etcd, prefix);
    const record = node('n1');
    const announcement = store.announce(() => record, quiet);
    await eventually(() => store.view.alive.get('n1') === record.instance, 'alive');
    const key = `${prefix}/nodes/n1`;
    const text = await etcd.raw.get(key).string();
    await etcd.raw.put(key).value((text ?? '').replace('192.0.2.1', '192.0.2.66'));
    await eventually(async () => (await etcd.raw.get(key).string()) === text, 'written back', 1000);
    await eventually(() => store.view.nodes.get('n1')?.publicIp === '192.0.2.1', 'in the view, too');
    t.deepEqual(store.view.nodes.get('n1'), record);
    await announcement.stop();
  },
);

test('a node comes back by itself: key deleted, etcd away for longer than its TTL', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(async () => await proxy.close());
  const watching = await storeOn(etcd, prefix);
  const store = openTestStore([proxy.url], prefix);
  const announcement = store.announce(() => node('n1'), quiet);
  await eventually(() => watching.view.alive.has('n1'), 'alive');
  await etcd.raw.delete().key(`${prefix}/nodes/n1/alive`);
  await eventually(() => !watching.view.alive.has('n1'), 'it is down', 1000);
  await eventually(() => watching.view.alive.has('n1'), 'alive again', 2000);
  proxy.refuse(true);
  proxy.cut();
  await eventually(() => !watching.view.alive.has('n1'), 'its time is over', 6000);
  proxy.refuse(false);
  const back = performance.now();
  await eventually(() => watching.view.alive.has('n1'), 'back', 2000);
  t.log(`back after ${Math.round(performance.now() - back)} ms`);
  await announcement.stop();
  t.pass();
});

test('a record that changes while the connection breaks is written once it is back', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(async () => await proxy.close());
  const watching = await storeOn(etcd, prefix);
  const store = openTestStore([proxy.url], prefix);
  let record = node('n1');
  const announcement = store.announce(() => record, { ...quiet, ttlSeconds: 60 });
  await eventually(() => watching.view.alive.has('n1'), 'alive');
  proxy.refuse(true);
  proxy.cut();
  record = node('n1', { publicIp: '192.0.2.9' });
  announcement.refresh();
  // Longer than one attempt takes.
  await sleep(500);
  proxy.refuse(false);
  await eventually(() => watching.view.nodes.get('n1')?.publicIp === '192.0.2.9', 'written');
  t.true(watching.view.alive.has('n1'), 'in the life that it had');
  await announcement.stop();
});

test('a short cut does not take a node down', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(async () => await proxy.close());
  const watching = await storeOn(etcd, prefix);
  const store = openTestStore([proxy.url], prefix);
  const announcement = store.announce(() => node('n1'), quiet);
  await eventually(() => watching.view.alive.has('n1'), 'alive');
  let died = 0;
  watching.subscribe((changes) => {
    for (const change of changes) if (change.kind === 'alive' && change.after === undefined) died++;
  });
  for (let i = 0; i < 6; i++) {
    await sleep(900);
    proxy.cut();
  }
  t.is(died, 0);
  await announcement.stop();
});

test('a second host of a name in use reports it and writes nothing until the first is removed', async (t) => {
  const prefix = freshPrefix();
  const [one, two] = await Promise.all([storeOn(etcd, prefix), storeOn(etcd, prefix)]);
  const blue = await one.createNetwork(spec('blue', '10.100.0.0/16'));
  const first = one.announce(() => node('n1', { instance: 'a', publicIp: '192.0.2.7' }), quiet);
  await eventually(
    () => two.view.alive.get('n1') === 'a' && two.view.nodes.has('n1'),
    'the first is announced',
  );
  const conflicts: object[] = [];
  const second = two.announce(() => node('n1', { instance: 'b', publicIp: '192.0.2.8' }), {
    ttlSeconds: 3,
    onConflict: (other) => conflicts.push(other),
  });
  const keptOut = async (): Promise<void> => {
    const refused = { code: 'FAILED_PRECONDITION', message: /name n1 is another node's, at 192\.0\.2\.7/ };
    t.throws(() => two.checkName(), refused);
    await t.throwsAsync(two.acquireLease(request(blue, 1, { instance: 'b' })), refused);
    await t.throwsAsync(two.putEndpoint(endpoint('blue', 'aa'), { unique: false }), refused);
    t.is(two.view.nodes.get('n1')?.publicIp, '192.0.2.7');
  };
  await keptOut();
  await sleep(2500);
  t.deepEqual(conflicts, [{ instance: 'a', publicIp: '192.0.2.7' }], 'reported once');
  await keptOut();
  await first.stop();
  await eventually(() => !two.view.alive.has('n1'), 'the agent of the first is away');
  await sleep(2500);
  t.false(two.view.alive.has('n1'), 'its containers run on');
  await keptOut();
  const again = one.announce(() => node('n1', { instance: 'a', publicIp: '192.0.2.7' }), quiet);
  await eventually(() => two.view.alive.get('n1') === 'a', 'the first is back');
  await again.stop();
  await one.removeNode('n1', { force: false });
  await eventually(() => two.view.alive.get('n1') === 'b', 'the second has its turn', 2500);
  two.checkName();
  await second.stop();
});

test('a host that lost its state directory regains its name when its old life lease expires', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const { ID } = await etcd.raw.leaseClient.leaseGrant({ TTL: 2 });
  const before = JSON.stringify({ instance: 'a', publicIp: '192.0.2.1' });
  await etcd.raw.put(`${prefix}/nodes/n1`).value(before);
  await etcd.raw.put(`${prefix}/nodes/n1/alive`).value('a').lease(ID);
  await eventually(() => store.view.alive.has('n1'), 'its earlier life');
  const announcement = store.announce(() => node('n1', { instance: 'b' }), quiet);
  t.notThrows(() => store.checkName());
  await eventually(() => store.view.alive.get('n1') === 'b', 'its own again', 6000);
  t.is(store.view.nodes.get('n1')?.instance, 'b');
  await announcement.stop();
});

test.serial('the same instance goes on at once after a restart', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await etcd.raw.put(`${prefix}/nodes/n1/alive`).value('instance-of-n1');
  const conflicts: object[] = [];
  const announcement = store.announce(() => node('n1'), {
    ttlSeconds: 3,
    onConflict: (other) => conflicts.push(other),
  });
  await eventually(() => store.view.nodes.has('n1'), 'announced', 1000);
  t.deepEqual(conflicts, []);
  await announcement.stop();
});

test('stopped at any moment of its start, a node leaves no life lease', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  for (let i = 0; i < 20; i++) {
    const announcement = store.announce(() => node(`n${i}`), quiet);
    await sleep(Math.random() * 15);
    await announcement.stop();
  }
  const alive = async (): Promise<string[]> =>
    Object.keys(await etcd.raw.getAll().prefix(`${prefix}/nodes/`).strings()).filter((key) =>
      key.endsWith('/alive'),
    );
  t.deepEqual(await alive(), []);
});

async function furnish(store: Store, name: string, number: number, endpoints: number) {
  const network =
    store.view.networks.get('blue') ?? (await store.createNetwork(spec('blue', '10.100.0.0/16')));
  await store.acquireLease(
    request(network, number, { node: name, previous: { subnet: IpNetwork.parse(`10.100.${number}.0/24`) } }),
  );
  await Promise.all(
    Array.from({ length: endpoints }, async (_, i) => {
      const id = `${number}${i.toString(16).padStart(4, '0')}`;
      await store.putEndpoint(endpoint('blue', id, { node: name, name: `${name}-${i}` }), {
        unique: i % 2 === 0,
      });
    }),
  );
  await store.claimAddress({
    network,
    ip: IpAddress.parse(`10.100.200.${number + 10}`),
    node: name,
    endpoint: `${number}0000`,
  });
  return network;
}

test('a node is removed with everything it owns, however much', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const first = store.announce(() => node('n1'), quiet);
  await eventually(() => store.view.alive.has('n1'), 'alive');
  await furnish(store, 'n1', 1, 150);
  await furnish(store, 'n2', 2, 3);
  await t.throwsAsync(store.removeNode('n1', { force: false }), { message: /n1 is up/ });
  await t.throwsAsync(store.removeNode('nobody', { force: false }), {
    message: /nobody: there is no such node/,
  });
  await first.stop();
  await eventually(() => !store.view.alive.has('n1'), 'down');
  await store.removeNode('n1', { force: false });
  const left = Object.entries(await etcd.raw.getAll().prefix(`${prefix}/`).strings());
  t.deepEqual(
    left
      .filter(([key, value]) => key.includes('n1') || value.includes('"n1"'))
      .map(([key]) => key.slice(prefix.length)),
    ['/removed/nodes/n1'],
  );
  t.is(store.view.endpoints.get('blue')?.size, 3);
  t.deepEqual([...(store.view.leases.get('blue')?.keys() ?? [])], ['10.100.2.0/24']);
  t.like(store.view.removals.get('node n1'), { kind: 'node', forced: false });

  await t.throwsAsync(store.removeNode('n1', { force: true }), { message: /n1: there is no such node/ });

  const again = store.announce(() => node('n1'), quiet);
  await eventually(() => store.view.alive.has('n1'), 'it comes back');
  t.is(store.view.removals.size, 0, 'and is not removed any more');
  await again.stop();
});

test('a node that etcd has lost can be removed: a tombstone is written and its leftovers deleted', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  const announcement = store.announce(() => node('n1'), quiet);
  await furnish(store, 'n1', 1, 3);
  await announcement.stop();
  await eventually(() => store.view.nodes.has('n1') && !store.view.alive.has('n1'), 'down');
  await etcd.raw.delete().key(`${prefix}/nodes/n1`);
  await eventually(() => !store.view.nodes.has('n1'), 'lost');
  await store.removeNode('n1', { force: false });
  t.is(store.view.endpoints.get('blue')?.size ?? 0, 0);
  t.like(store.view.removals.get('node n1'), { kind: 'node', forced: false });

  await etcd.raw.delete().prefix(`${prefix}/`);
  await eventually(() => store.view.removals.size === 0, 'all of it lost');
  await store.removeNode('n1', { force: false });
  await eventually(() => store.view.removals.has('node n1'), 'there is a tombstone');
});

test('a node removed by force while up comes back only with a restart', async (t) => {
  const store = await storeOn(etcd, freshPrefix());
  const announcement = store.announce(() => node('n1'), quiet);
  await eventually(() => store.view.alive.has('n1'), 'alive');
  await store.removeNode('n1', { force: true });
  t.true(store.view.removals.get('node n1')?.forced);
  await sleep(2500);
  t.false(store.view.alive.has('n1'));
  t.false(store.view.nodes.has('n1'));
  await announcement.stop();
  const next = store.announce(() => node('n1'), quiet);
  await eventually(() => store.view.alive.has('n1'), 'started again');
  t.is(store.view.removals.size, 0);
  await next.stop();
});

test('of twenty endpoints that request one name, one gets it', async (t) => {
  const prefix = freshPrefix();
  const stores = await Promise.all([storeOn(etcd, prefix), storeOn(etcd, prefix)]);
  await stores[0].createNetwork(spec('blue', '10.100.0.0/16'));
  const results = await Promise.allSettled(
    Array.from(
      { length: 20 },
      async (_, i) =>
        await stores[i % 2]!.putEndpoint(endpoint('blue', `a${i}`, { name: 'web', explicitName: true }), {
          unique: true,
        }),
    ),
  );
  t.is(results.filter((result) => result.status === 'fulfilled').length, 1);
  const there = await etcd.raw.getAll().prefix(`${prefix}/networks/blue/endpoints/`).strings();
  t.is(Object.keys(there).length, 1);
  const winner = Object.keys(there)[0]?.split('/').at(-1) ?? '';
  for (const result of results) {
    if (result.status !== 'rejected') continue;
    t.like(result.reason, { code: 'ALREADY_EXISTS' });
    t.regex((result.reason as Error).message, new RegExp(`the name web belongs to endpoint ${winner} `));
  }
});

test('names: repeated by its endpoint, taken over, released, left behind', async (t) => {
  const prefix = freshPrefix();
  const store = await storeOn(etcd, prefix);
  await store.createNetwork(spec('blue', '10.100.0.0/16'));
  const web = endpoint('blue', 'aa', { name: 'web', explicitName: true });
  await store.putEndpoint(web, { unique: true });
  await store.putEndpoint({ ...web, aliases: ['www'] }, { unique: true });
  await eventually(() => store.view.endpoints.get('blue')?.get('aa')?.aliases.length === 1, 'changed');
  await store.putEndpoint(endpoint('blue', 'bb', { name: 'web' }), { unique: false });
  await store.putEndpoint(endpoint('blue', 'cc', { name: 'db' }), { unique: false });
  await store.putEndpoint(endpoint('blue', 'dd', { name: 'db' }), { unique: false });
  await eventually(
    () => store.view.endpoints.get('blue')?.size === 4,
    'names that are taken over may be alike',
  );
  await t.throwsAsync(store.putEndpoint(endpoint('blue', 'ee', { name: 'db' }), { unique: true }), {
    message: /the name db belongs to/,
  });
  await store.deleteEndpoint('blue', 'bb');
  t.is(await etcd.raw.get(`${prefix}/networks/blue/names/web`).string(), 'aa', 'another one’s name stays');
  await store.deleteEndpoint('blue', 'aa');
  t.is(await etcd.raw.get(`${prefix}/networks/blue/names/web`).string(), null);
  await store.deleteEndpoint('blue', 'aa');
  await etcd.raw.put(`${prefix}/networks/blue/names/web`).value('gone');
  await eventually(() => store.view.endpoints.get('blue')?.size === 2, 'both are deleted');
  await store.putEndpoint(web, { unique: true });
  t.is(
    await etcd.raw.get(`${prefix}/networks/blue/names/web`).string(),
    'aa',
    'an index key without endpoint reserves nothing',
  );
});

test('one leads; another within 5 s after it dies, and at once after it resigns', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(async () => await proxy.close());
  const leading: string[] = [];
  let terms = 0;
  const stop = new AbortController();
  const run = (store: Store, id: string, signal: AbortSignal) =>
    store.campaign(
      'controller',
      id,
      async (over) => {
        leading.push(id);
        terms++;
        await new Promise((resolve) => over.addEventListener('abort', resolve, { once: true }));
        leading.splice(leading.indexOf(id), 1);
      },
      signal,
    );
  const dying = openTestStore([proxy.url], prefix);
  const first = run(dying, 'a', stop.signal);
  await eventually(() => leading.includes('a'), 'a leads');
  const leave = new AbortController();
  const second = run(await storeOn(etcd, prefix), 'b', leave.signal);
  const third = run(await storeOn(etcd, prefix), 'c', stop.signal);
  await sleep(4000);
  t.deepEqual(leading, ['a'], 'a goes on leading');

  proxy.refuse(true);
  proxy.cut();
  const dead = performance.now();
  let together = false;
  await eventually(
    () => {
      together ||= leading.length > 1;
      return leading.some((id) => id !== 'a');
    },
    'another one leads',
    5000,
  );
  t.log(`after ${Math.round(performance.now() - dead)} ms`);
  t.false(together, 'never two at once');
  proxy.refuse(false);

  const left = leading[0] ?? '';
  const before = terms;
  const since = performance.now();
  if (left === 'b') leave.abort();
  else await etcd.raw.delete().key(`${prefix}/elections/controller`);
  await eventually(
    () => terms > before && leading.length === 1 && (left !== 'b' || leading[0] !== 'b'),
    'the next one leads',
    2000,
  );
  t.log(`next after ${Math.round(performance.now() - since)} ms`);
  stop.abort();
  leave.abort();
  await Promise.all([first, second, third]);
  t.deepEqual(leading, []);
  await eventually(
    async () => (await etcd.raw.get(`${prefix}/elections/controller`).string()) === null,
    'no leader',
  );
});
