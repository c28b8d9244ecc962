// The bare watch, cut under load and during its catch-up.
//
// Every event is counted: none is missed, none comes twice.
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';
import type { IEvent, IKeyValue } from 'etcd3';

import { EtcdClient } from '../../store/client.js';
import { Keys } from '../../store/keys.js';
import { Watcher } from '../../store/watcher.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { eventually, freshPrefix, recordingLog } from './helpers.js';
import { startProxy } from './proxy.js';

/** Follows a prefix without decoding, and counts lists and events. */
function follow(url: string, prefix: string, networks?: string[]) {
  const log = recordingLog();
  const keys = new Keys(prefix);
  const state = new Map<string, string>();
  /** By key: every revision that was delivered as an event, in order. */
  const seen = new Map<string, number[]>();
  const order: number[] = [];
  let lists = 0;
  let up = false;
  const client = new EtcdClient([url], {}, keys.allocated(), log, () => undefined);
  const watcher = new Watcher(
    client,
    keys,
    { networks },
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
      begun: () => undefined,
      narrowed: () => [],
      connected: (now: boolean) => (up = now),
    },
    log,
  );
  return {
    log,
    state,
    seen,
    order,
    at: (key: string) => watcher.at(key),
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

/** Writes and deletes at random; returns the revisions of its changes by key. */
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
test.after.always(async () => await etcd?.stop());

test.serial('a watch that is cut repeatedly under load misses nothing and repeats nothing', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(() => proxy.close());
  const watch = follow(proxy.url, prefix);
  t.teardown(() => watch.close());
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
});

test.serial('thousands of missed events arrive in one go, also where the catch-up is cut', async (t) => {
  const prefix = freshPrefix();
  const proxy = await startProxy(etcd.port);
  t.teardown(() => proxy.close());
  const watch = follow(proxy.url, prefix);
  t.teardown(() => watch.close());
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
});

test.serial('a part in which nothing happens is not behind a compaction', async (t) => {
  const own = await startEtcd({ flags: ['--experimental-watch-progress-notify-interval=100ms'] });
  t.teardown(() => own.stop());
  const put = async (key: string) => Number((await own.raw.put(`/weft/${key}`).value('x')).header.revision);
  // Red is left out of the watch, which so has a part before it and one after it.
  for (let at = 0; at < 1500; at += 100)
    await own.raw.kv.txn({
      success: Array.from({ length: 100 }, (_, more) => ({
        request_put: {
          key: Buffer.from(`/weft/networks/red/endpoints/e${at + more}`),
          value: Buffer.from('x'),
        },
      })),
    });
  const proxy = await startProxy(own.port);
  t.teardown(() => proxy.close());
  const watch = follow(proxy.url, '/weft', []);
  t.teardown(() => watch.close());
  await eventually(() => watch.up, 'the watches run');
  const last = await put('nodes/busy');
  const quiet = '/weft/allocated';
  t.true(watch.at('/weft/networks/red/endpoints/e1') > last, 'nothing is waited for there');
  await eventually(() => watch.at(quiet) >= last, 'etcd tells how far it is');
  proxy.refuse(true);
  proxy.cut();
  await eventually(() => !watch.up, 'the cut is seen');
  await own.raw.kv.compact({ revision: last });
  const next = await put('nodes/busy');
  proxy.refuse(false);
  await eventually(() => watch.at('/weft/nodes/busy') >= next, 'it goes on');
  t.is(watch.lists, 1);
});
