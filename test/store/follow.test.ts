// Stores that follow few networks: what they have of the others, and how a network begins and ends to be followed.
import { setTimeout as sleep } from 'node:timers/promises';

import test from 'ava';

import type { Change, FollowedNetwork, Store } from '../../store/store.js';
import { formatSubnetKey } from '../../store/keys.js';
import { openStore } from '../../store/etcd-store.js';
import { encodeEndpoint } from '../../store/record-codec.js';
import { startEtcd, temporaryFolder, type TestEtcd } from './etcd.js';
import {
  closeStores,
  endpoint,
  eventually,
  freshPrefix,
  openTestStore,
  recordingLog,
  spec,
} from './helpers.js';
import { startProxy } from './proxy.js';

/** More than a store takes in vain before it leaves them out of its watches. */
const MANY = 1500;

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
});
test.after.always(async () => {
  await closeStores();
  await etcd?.stop();
});

const config = (number: number): string =>
  JSON.stringify({ Network: `10.${number}.0.0/16`, Backend: { Type: 'vxlan', VNI: 4000 + number } });

const put = async (key: string, value: string): Promise<void> => void (await etcd.raw.put(key).value(value));

const idOf = (number: number): string => `e${number.toString(16)}`;

const putEndpoint = async (prefix: string, network: string, number: number, name = 'c'): Promise<void> =>
  put(
    `${prefix}/networks/${network}/endpoints/${idOf(number)}`,
    encodeEndpoint(endpoint(network, idOf(number), { name })),
  );

/** At once. */
async function putEndpoints(prefix: string, network: string, many: number, name = 'c'): Promise<void> {
  const all = Array.from({ length: many }, (_, number) => ({
    request_put: {
      key: Buffer.from(`${prefix}/networks/${network}/endpoints/${idOf(number)}`),
      value: Buffer.from(encodeEndpoint(endpoint(network, idOf(number), { name }))),
    },
  }));
  for (let at = 0; at < many; at += 100) await etcd.raw.kv.txn({ success: all.slice(at, at + 100) });
}

/** Network blue with one endpoint, and red with many. */
async function twoNetworks(prefix: string, many = MANY): Promise<void> {
  await put(`${prefix}/networks/blue/config`, config(1));
  await put(`${prefix}/networks/red/config`, config(2));
  await putEndpoint(prefix, 'blue', 1);
  await put(`${prefix}/networks/red/subnets/10.2.5.0-24`, '{"PublicIP":"192.0.2.1"}');
  await put(`${prefix}/networks/red/claims/10.2.9.9`, '{"node":"n1","endpoint":"ab","state":"granted"}');
  await putEndpoints(prefix, 'red', many);
  await put(`${prefix}/networks/red/names/c`, 'e1');
  await put(`${prefix}/nodes/n1`, '{"instance":"i","publicIp":"192.0.2.1"}');
}

async function opened(prefix: string, networks: string[] | undefined, url = etcd.url) {
  const log = recordingLog();
  const store = openTestStore([url], prefix, log, networks);
  await store.synced(AbortSignal.timeout(10_000));
  await eventually(() => store.state.connected, 'the watches run');
  const changes: Change[] = [];
  store.subscribe((batch) => changes.push(...batch));
  const endpoints = (network: string): string[] =>
    [...(store.view.endpoints.get(network)?.keys() ?? [])].sort();
  return { store, changes, endpoints, log };
}

async function following(store: Store, network: string): Promise<FollowedNetwork> {
  const followed = store.follow(network);
  await followed.listed(AbortSignal.timeout(20_000));
  return followed;
}

/** The ids of a network's endpoints in etcd. */
const inEtcd = async (prefix: string, network: string): Promise<string[]> =>
  (await etcd.raw.getAll().prefix(`${prefix}/networks/${network}/endpoints/`).keys()).map((key) =>
    key.slice(key.lastIndexOf('/') + 1),
  );

for (const many of [3, MANY])
  test(`the records of other networks are not followed, their configs are: ${many} records`, async (t) => {
    const prefix = freshPrefix();
    await twoNetworks(prefix, many);
    const { store, changes, endpoints } = await opened(prefix, ['blue']);
    t.deepEqual([...store.view.networks.keys()].sort(), ['blue', 'red']);
    t.deepEqual([...store.view.nodes.keys()], ['n1']);
    t.deepEqual(endpoints('blue'), ['e1']);
    t.deepEqual([store.follows('blue'), store.follows('red')], [true, false]);
    t.deepEqual([...store.view.leases.keys()], ['red']);
    t.deepEqual([...store.view.claims.keys()], []);

    await putEndpoint(prefix, 'red', 7, 'other');
    await put(`${prefix}/networks/red/config`, config(3));
    await put(`${prefix}/networks/green/config`, config(4));
    await putEndpoint(prefix, 'green', 1);
    await put(`${prefix}/networks/red/subnets/10.2.6.0-24`, '{"PublicIP":"192.0.2.2"}');
    await putEndpoint(prefix, 'blue', 2);
    await put(`${prefix}/policies/p`, '{"from":[],"to":[]}');
    await etcd.raw.delete().key(`${prefix}/nodes/n1`);
    await eventually(
      () => endpoints('blue').length === 2 && store.view.networks.has('green') && !store.view.nodes.has('n1'),
      'the changes',
    );
    await eventually(() => store.view.networks.get('red')?.subnet.toString() === '10.3.0.0/16', 'the config');
    await eventually(() => store.view.leases.get('red')?.size === 2, 'the lease');
    t.deepEqual(
      changes.filter((change) => change.kind === 'endpoint').map(({ network }) => network),
      ['blue'],
    );
    await store.close();
  });

for (const many of [3, MANY])
  test(`a network begins and ends to be followed: ${many} records`, async (t) => {
    const prefix = freshPrefix();
    await twoNetworks(prefix, many);
    const { store, changes, endpoints } = await opened(prefix, []);
    const red = await following(store, 'red');
    t.is(endpoints('red').length, many);
    t.deepEqual([...(store.view.claims.get('red')?.keys() ?? [])], ['10.2.9.9']);
    await putEndpoint(prefix, 'red', 5000);
    await put(`${prefix}/networks/red/claims/10.2.9.10`, '{"node":"n1","endpoint":"ab","state":"granted"}');
    await eventually(() => endpoints('red').length === many + 1, 'a new record of it');
    await eventually(() => store.view.claims.get('red')?.size === 2, 'a new claim');

    changes.length = 0;
    red.end();
    red.end();
    t.false(store.view.endpoints.has('red'));
    t.is(changes.length, many + 1 + 2);
    t.is(store.view.leases.get('red')?.size, 1);
    t.true(changes.every((change) => change.after === undefined));
    await putEndpoint(prefix, 'red', 5001);
    await etcd.raw.delete().key(`${prefix}/networks/red/endpoints/e1`);
    await put(`${prefix}/nodes/later`, '{"instance":"i","publicIp":"192.0.2.1"}');
    await eventually(() => store.view.nodes.has('later'), 'another record');
    t.false(store.view.endpoints.has('red'));

    await following(store, 'red');
    t.deepEqual(endpoints('red'), (await inEtcd(prefix, 'red')).sort());
    await store.close();
  });

test('a store of all networks becomes one of few', async (t) => {
  const prefix = freshPrefix();
  await twoNetworks(prefix);
  const { store, endpoints } = await opened(prefix, undefined);
  t.is(endpoints('red').length, MANY);
  const blue = store.follow('blue');
  store.narrow();
  t.deepEqual([...store.view.endpoints.keys()], ['blue']);
  t.deepEqual([...store.view.networks.keys()].sort(), ['blue', 'red']);
  t.true(store.follows('blue'));
  await putEndpoint(prefix, 'red', 5000);
  await putEndpoint(prefix, 'blue', 2);
  await eventually(() => endpoints('blue').length === 2, 'blue goes on');
  t.false(store.view.endpoints.has('red'));
  await following(store, 'red');
  t.is(endpoints('red').length, MANY + 1);
  blue.end();
  t.false(store.view.endpoints.has('blue'));
  await store.close();
});

test('a store that becomes one of few while it lists follows few', async (t) => {
  const prefix = freshPrefix();
  await twoNetworks(prefix);
  await Promise.all(
    Array.from({ length: 10 }, async (_, at) => {
      const store = openTestStore([etcd.url], prefix);
      const blue = store.follow('blue');
      await sleep(at * 3);
      store.narrow();
      await blue.listed(AbortSignal.timeout(20_000));
      t.deepEqual([...store.view.endpoints.keys()], ['blue']);
      t.false(store.follows('red'));
      await store.close();
    }),
  );
});

test('a network of which nothing exists can be followed, and its records come', async (t) => {
  const prefix = freshPrefix();
  const { store, endpoints } = await opened(prefix, []);
  await following(store, 'red');
  t.true(store.follows('red'));
  await twoNetworks(prefix, 3);
  await eventually(() => endpoints('red').length === 3, 'its records');
  t.is(endpoints('blue').length, 0);
  await store.close();
});

/** Writes and deletes leases and endpoints of a network until it is told to stop, each with a greater number in its name. */
function churning(prefix: string, network: string) {
  let running = true;
  let count = 0;
  const writer = async (first: number): Promise<void> => {
    for (let at = 0; running; at++) {
      const number = 1000 * first + (at % 20);
      const lease = `${prefix}/networks/${network}/subnets/10.2.${(first * 20 + at) % 20}.0-24`;
      if (at % 4 === 0) await etcd.raw.delete().key(lease);
      else if (at % 4 === 1) await put(lease, `{"PublicIP":"192.0.2.${++count % 250}"}`);
      if (at % 3 === 2)
        await etcd.raw.delete().key(`${prefix}/networks/${network}/endpoints/${idOf(number)}`);
      else await putEndpoint(prefix, network, number, `c${++count}`);
    }
  };
  const done = Promise.all([writer(1), writer(2), writer(3)]);
  return {
    stop: async () => {
      running = false;
      await done;
    },
  };
}

/** Whether each endpoint had only newer states after older ones. */
const forward = (changes: readonly Change[]): boolean => {
  const last = new Map<string, number>();
  return changes.every((change) => {
    if (change.kind !== 'endpoint') return true;
    const now = Number(change.after?.name.slice(1) ?? 0);
    const ok = change.after === undefined || now >= (last.get(change.id) ?? 0);
    if (change.after !== undefined) last.set(change.id, now);
    return ok;
  });
};

for (const many of [0, MANY])
  test(`a network that changes while it is listed and dropped is never wrong: ${many} records`, async (t) => {
    const prefix = freshPrefix();
    await put(`${prefix}/networks/red/config`, config(2));
    await putEndpoints(prefix, 'red', many, 'c0');
    const proxy = await startProxy(etcd.port);
    t.teardown(() => proxy.close());
    const { store, changes, endpoints } = await opened(prefix, ['blue'], proxy.url);
    const writing = churning(prefix, 'red');
    for (let round = 0; round < 12; round++) {
      let red = await following(store, 'red');
      await sleep(Math.random() * 30);
      if (round % 4 === 1) proxy.cut();
      if (round % 4 === 2) {
        // Its list is on the way when it is dropped, and is wanted again.
        red.end();
        store.follow('red').end();
        const again = store.follow('red');
        proxy.cut();
        red = await following(store, 'red');
        again.end();
      }
      t.true(store.follows('red'));
      if (round < 11) red.end();
    }
    await writing.stop();
    const expected = await etcd.raw.getAll().prefix(`${prefix}/networks/red/endpoints/`).strings();
    await eventually(
      () =>
        store.state.connected &&
        JSON.stringify(endpoints('red').map((id) => store.view.endpoints.get('red')?.get(id)?.name)) ===
          JSON.stringify(
            Object.keys(expected)
              .sort()
              .map((key) => (JSON.parse(expected[key] ?? '') as { name: string }).name),
          ),
      'what etcd has',
    );
    t.true(forward(changes));
    t.is(store.state.restored, undefined);
    const leases = await etcd.raw.getAll().prefix(`${prefix}/networks/red/subnets/`).strings();
    const wanted = Object.entries(leases).map(
      ([key, text]) =>
        `${key.slice(key.lastIndexOf('/') + 1)} ${(JSON.parse(text) as { PublicIP: string }).PublicIP}`,
    );
    await eventually(
      () =>
        [...(store.view.leases.get('red')?.values() ?? [])]
          .map(({ subnet, publicIp }) => `${formatSubnetKey(subnet)} ${publicIp.toString()}`)
          .toSorted()
          .join() === wanted.toSorted().join(),
      'the leases that etcd has',
    );
    t.false(store.view.endpoints.has('blue'));
    await store.close();
  });

test('what is missed in an outage comes for every part, and nothing of other networks', async (t) => {
  const prefix = freshPrefix();
  await twoNetworks(prefix);
  const proxy = await startProxy(etcd.port);
  t.teardown(() => proxy.close());
  const { store, endpoints } = await opened(prefix, ['blue'], proxy.url);
  const away = async (work: () => Promise<void>): Promise<void> => {
    proxy.refuse(true);
    proxy.cut();
    await eventually(() => !store.state.connected, 'the cut is seen');
    await work();
    proxy.refuse(false);
    await eventually(() => store.state.connected, 'it is back');
  };
  // The list is older: what others write beside it is no event by which the same past is known.
  await putEndpoint(prefix, 'blue', 9);
  await etcd.raw.delete().key(`${prefix}/networks/blue/endpoints/${idOf(1)}`);
  await eventually(() => endpoints('blue').join() === idOf(9), 'events since the list');
  await away(async () => {
    await putEndpoint(prefix, 'blue', 2);
    await putEndpoint(prefix, 'red', 5000);
    await put(`${prefix}/networks/red/config`, config(5));
    await put(`${prefix}/nodes/n2`, '{"instance":"j","publicIp":"192.0.2.2"}');
  });
  await eventually(() => endpoints('blue').length === 2 && store.view.nodes.size === 2, 'what was missed');
  await eventually(() => store.view.networks.get('red')?.subnet.toString() === '10.5.0.0/16', 'the config');
  t.is(store.state.resyncs, 0);

  // Compacted: one list, of what is followed.
  await away(async () => {
    await putEndpoint(prefix, 'blue', 3);
    await etcd.raw.delete().key(`${prefix}/nodes/n1`);
    const { header } = await etcd.raw.kv.put({ key: Buffer.from(`${prefix}/else`), value: Buffer.from('x') });
    await etcd.raw.kv.compact({ revision: header.revision });
  });
  await eventually(() => endpoints('blue').length === 3 && !store.view.nodes.has('n1'), 'what was missed');
  t.is(store.state.resyncs, 1);
  t.false(store.view.endpoints.has('red'));
  await following(store, 'red');
  t.is(endpoints('red').length, MANY + 1);
  await store.close();
});

test('of networks that overlap, made at once by stores of few networks, one is made', async (t) => {
  const prefix = freshPrefix();
  await twoNetworks(prefix);
  const stores = await Promise.all([1, 2, 3].map(() => opened(prefix, ['blue'])));
  // Their names are in different parts of the watch.
  const names = ['amber', 'black', 'pink', 'rose', 'white', 'yellow'];
  const made = await Promise.allSettled(
    names.map(async (name, at) => await stores[at % 3]?.store.createNetwork(spec(name, '10.50.0.0/16'))),
  );
  t.is(made.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const one of made) if (one.status === 'rejected') t.regex(String(one.reason), /overlaps|10\.50\.0\.0/);
  for (const { store } of stores) {
    await eventually(() => store.view.networks.size === 3, 'everybody knows it');
    await store.close();
  }
});

/** Events that etcd has sent to its watches. */
async function eventsSent(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const found = /^etcd_debugging_mvcc_events_total (\S+)$/m.exec(text);
  if (found === null) throw new Error('etcd does not count the events');
  return Number(found[1]);
}

// Alone: no other store is there, whose events would count.
test.serial('etcd sends little of a busy network to who does not follow it', async (t) => {
  const prefix = freshPrefix();
  await twoNetworks(prefix);
  const { store, endpoints } = await opened(prefix, ['blue']);
  const sentMeanwhile = async (work: () => Promise<void>): Promise<number> => {
    const before = await eventsSent(etcd.url);
    await work();
    const number = endpoints('blue').length + 1;
    await putEndpoint(prefix, 'blue', number);
    await eventually(() => endpoints('blue').length === number, 'blue goes on');
    return (await eventsSent(etcd.url)) - before;
  };
  t.is(await sentMeanwhile(() => putEndpoints(prefix, 'red', 50, 'again')), 1);
  // One that grows while it is watched is left out, too.
  await put(`${prefix}/networks/green/config`, config(6));
  t.true((await sentMeanwhile(() => putEndpoints(prefix, 'green', MANY))) > 100);
  t.is(await sentMeanwhile(() => putEndpoints(prefix, 'green', 50, 'again')), 1);
  await store.close();
});

test.serial('who left networks out before asks for little at its next start', async (t) => {
  const own = await startEtcd();
  t.teardown(() => own.stop());
  const prefix = '/weft';
  const write = async (key: string, value: string): Promise<void> =>
    void (await own.raw.put(`${prefix}/${key}`).value(value));
  for (const [number, name] of ['blue', 'green', 'red'].entries())
    await write(`networks/${name}/config`, config(number + 1));
  const many = Array.from({ length: MANY }, (_, number) => ({
    request_put: {
      key: Buffer.from(`${prefix}/networks/red/endpoints/${idOf(number)}`),
      value: Buffer.from(encodeEndpoint(endpoint('red', idOf(number), { name: 'c' }))),
    },
  }));
  for (let at = 0; at < MANY; at += 100) await own.raw.kv.txn({ success: many.slice(at, at + 100) });
  await write('networks/green/endpoints/ab', encodeEndpoint(endpoint('green', 'ab', { name: 'c' })));
  let leftOut: readonly string[] = [];
  const openedWith = async (networks: string[], before: readonly string[]) => {
    const proxy = await startProxy(own.port);
    const store = openStore({
      ...{ endpoints: [proxy.url], prefix, log: recordingLog(), networks, leftOut: before },
      onLeftOut: (now) => {
        leftOut = now;
      },
    });
    await store.synced(AbortSignal.timeout(10_000));
    return { store, proxy, close: async () => [await store.close(), await proxy.close()] };
  };
  const first = await openedWith(['blue'], []);
  t.deepEqual(leftOut, ['green', 'red']);
  const all = first.proxy.received;
  await first.close();

  // One that is followed now is listed, one that is no more is forgotten, and one that is new is found.
  await own.raw.delete().key(`${prefix}/networks/blue/config`);
  await write('networks/cyan/config', config(4));
  const next = await openedWith(['green'], ['blue', ...leftOut]);
  t.deepEqual([...next.store.view.networks.keys()].sort(), ['cyan', 'green', 'red']);
  t.deepEqual([...next.store.view.endpoints.keys()], ['green']);
  t.deepEqual(leftOut, ['green', 'red']);
  t.true(next.proxy.received < all / 5, `${next.proxy.received} of ${all} bytes`);
  await write('networks/aqua/config', config(5));
  await write('networks/red/subnets/10.3.5.0-24', '{"PublicIP":"192.0.2.1"}');
  await eventually(() => next.store.view.networks.has('aqua'), 'a network between those that are left out');
  await eventually(() => next.store.view.leases.get('red')?.size === 1, 'a lease of one that is left out');
  await following(next.store, 'red');
  t.is(next.store.view.endpoints.get('red')?.size, MANY);
  await next.close();
});

test('an etcd that was emptied has lost what was followed, and nothing else', async (t) => {
  const own = await startEtcd();
  t.teardown(() => own.stop());
  const claim = '{"node":"n1","endpoint":"ab","state":"granted"}';
  for (const network of ['blue', 'red']) {
    await own.raw.put(`/weft/networks/${network}/config`).value(config(1));
    await own.raw.put(`/weft/networks/${network}/claims/10.1.5.9`).value(claim);
  }
  const { store, changes } = await opened('/weft', ['blue'], own.url);
  await own.kill();
  await own.start(temporaryFolder('emptied'));
  await eventually(() => store.state.restored !== undefined, 'the loss is seen', 20_000);
  t.deepEqual(
    changes.flatMap((change) => (change.kind === 'claim' ? [[change.network, change.lost]] : [])),
    [['blue', true]],
  );
  t.is(store.view.networks.size, 0);
  await store.close();
});
