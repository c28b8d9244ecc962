// Readiness of the agent, retries of the first list, and weft_problems.
import test from 'ava';

import { measureNode } from '../../../agent/api/gauges.js';
import { agentMetrics } from '../../../agent/health/metrics.js';
import { networkScope } from '../../../agent/health/problem-key.js';
import { Problems } from '../../../agent/health/problems.js';
import { AgentReadiness, FIRST_LIST, NAME_CONFLICT, NODE_REMOVED } from '../../../agent/health/readiness.js';
import { problemsOf } from '../../../agent/api/status.js';
import { StoreFollower, type StoreFollowerOptions } from '../../../agent/start/store-follower.js';
import { unavailable } from '../../../core/errors.js';
import { silentLogger } from '../../../daemon/log.js';
import { DisplacedNodes } from '../../../store/displaced-nodes.js';
import type { Change } from '../../../store/store.js';
import { FakeStore } from '../../fakes/store.js';
import { until } from '../../lab/wait.js';

const SOON = { everyMs: 10 };

const LEASE = { scope: networkScope('blue'), kind: 'lease' } as const;

const problem = (why: string): { what: string; why: string; fix: string } => ({
  what: 'node a',
  why,
  fix: 'See to it.',
});

test('a node that was removed, or whose name is taken, is not ready', (t) => {
  const problems = new Problems();
  const readiness = new AgentReadiness(problems);
  t.deepEqual(readiness.now(), { ready: false, reason: 'the agent: starting' });
  readiness.begins();
  problems.set(LEASE, problem('etcd is away'));
  t.deepEqual(readiness.now(), { ready: true });
  for (const key of [NODE_REMOVED, NAME_CONFLICT]) {
    problems.set(key, problem(`it is ${key.kind}`));
    t.deepEqual(readiness.now(), { ready: false, reason: `node a: it is ${key.kind}` });
    problems.clear(key);
    t.deepEqual(readiness.now(), { ready: true });
  }
});

const nothing = (): Promise<void> => Promise.resolve();

/** A follower whose parts do nothing but what is given. */
const follow = (
  given: Pick<StoreFollowerOptions, 'store' | 'problems'> & {
    memberships: Partial<StoreFollowerOptions['memberships']>;
    metrics?: StoreFollowerOptions['metrics'];
  },
  first: () => Promise<void>,
): StoreFollower =>
  new StoreFollower(
    {
      metrics: agentMetrics(),
      ...given,
      memberships: {
        ...{ handle: nothing, note: () => undefined, reconnected: nothing },
        ...given.memberships,
      },
      gateways: { handle: nothing },
      policies: { handle: nothing },
      ports: { handle: nothing },
      publisher: { handle: () => undefined, kick: () => undefined, resync: () => undefined },
      pluginAddresses: { handle: () => undefined },
      announcement: { refresh: () => undefined },
      log: silentLogger,
      node: 'a',
      instance: 'i',
      signal: new AbortController().signal,
      changed: () => undefined,
      retryMs: 20,
    },
    first,
  );

test('only a connection that comes after a lost one repeats what the first list is handled for', async (t) => {
  const store = new FakeStore({ synced: false });
  let [first, again] = [0, 0];
  const memberships = { reconnected: () => Promise.resolve(void again++) };
  const follower = follow({ store, problems: new Problems(), memberships }, () =>
    Promise.resolve(void first++),
  );
  t.teardown(() => follower.stop());
  store.setConnected(false);
  store.sync();
  await until('the first list is handled', () => first > 0, SOON);
  store.setConnected(true);
  await new Promise((resolve) => setImmediate(resolve));
  t.is(again, 0);
  store.setConnected(false);
  store.setConnected(true);
  await until('the new connection is handled', () => again > 0, SOON);
  t.deepEqual([first, again], [1, 1]);
});

test('a connection that was there before it was followed is measured, too', async (t) => {
  const store = new FakeStore();
  const metrics = agentMetrics();
  const connected = async (): Promise<number | undefined> =>
    (await metrics.storeConnected.get()).values[0]?.value;
  const follower = follow({ store, problems: new Problems(), memberships: {}, metrics }, nothing);
  t.teardown(() => follower.stop());
  t.is(await connected(), 1);
  store.setConnected(false);
  t.is(await connected(), 0);
});

test('the work after the first list is retried until it succeeds', async (t) => {
  const store = new FakeStore({ synced: false });
  const problems = new Problems();
  const readiness = new AgentReadiness(problems);
  readiness.waitsFor(() => ({ what: 'etcd', why: 'it has not answered yet', fix: 'Start it.' }));
  let times = 0;
  let handled = 0;
  let works = false;
  const memberships = { handle: () => Promise.resolve(void handled++) };
  const follower = follow({ store, problems, memberships }, async () => {
    times++;
    if (!works) throw unavailable('etcd went away');
    readiness.begins();
  });
  t.teardown(() => follower.stop());
  t.deepEqual(readiness.now(), {
    ready: false,
    reason: 'the agent: waiting for etcd: it has not answered yet',
  });
  store.sync();
  await until('it was tried three times', () => times > 2, SOON);
  t.true(times > 2);
  const reason = 'the records of this node in etcd: they could not be restored: etcd went away';
  t.deepEqual(readiness.now(), { ready: false, reason });
  store.putNode({ name: 'b', instance: 'b', publicIp: '192.0.2.2', version: '1', startedAt: '' });
  await until('the change is handled', () => handled > 0, SOON);
  t.is(handled, 1, 'changes do not wait for the first list');
  works = true;
  await until('the agent is ready', () => readiness.now().ready, SOON);
  t.deepEqual(readiness.now(), { ready: true });
  t.deepEqual(problems.list(), []);
  const done = times;
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.is(times, done, 'and not after it succeeded');
});

test('weft_problems counts the problems that `weft status` lists', async (t) => {
  const store = new FakeStore();
  const problems = new Problems();
  const metrics = agentMetrics();
  const sources = {
    store,
    problems,
    metrics,
    readiness: new AgentReadiness(problems),
    displaced: new DisplacedNodes(store.view),
    etcd: ['http://127.0.0.1:2379'],
    controller: () => ({ state: 'disconnected' as const, address: '127.0.0.1:7400', error: '' }),
    memberships: { list: () => [] },
    endpoints: { list: () => [] },
  };
  measureNode(metrics.registry, { ...sources, kernel: { pumpCounters: () => new Map() } });
  problems.set(LEASE, problem('no subnet is left'));
  store.putBad({ key: '/weft/nodes/b', why: 'no JSON' });
  store.setConnected(false);
  t.deepEqual(
    problemsOf(sources).map(({ what }) => what),
    [
      'the agent',
      'node a',
      'etcd at http://127.0.0.1:2379',
      'the record /weft/nodes/b in etcd',
      'the controller at 127.0.0.1:7400',
    ],
  );
  t.regex(await metrics.registry.metrics(), /^weft_problems 5$/m);
});

test('while the start waits for etcd, its problem is not listed twice', (t) => {
  const store = new FakeStore();
  const problems = new Problems();
  const readiness = new AgentReadiness(problems);
  const [what, fix] = ['etcd at http://127.0.0.1:2379', 'Start it.'];
  const sources = {
    ...{ store, problems, readiness, displaced: new DisplacedNodes(store.view) },
    etcd: ['http://127.0.0.1:2379'],
    controller: () => ({ state: 'none' as const, address: '', error: '' }),
  };
  const listed = (): string[] => problemsOf(sources).map((one) => one.what);
  store.setConnected(false);
  t.deepEqual(listed(), ['the agent', what], 'it starts, and does not wait for it');
  let why = 'it has not answered yet';
  readiness.waitsFor(() => ({ what, why, fix }));
  t.deepEqual(listed(), ['the agent']);
  why = 'it refused the call: wrong password';
  t.is(readiness.waiting()?.why, `waiting for ${what}: ${why}`);
  problems.set(FIRST_LIST, problem('etcd went away'));
  t.deepEqual(listed(), ['node a', what]);
  readiness.begins();
  problems.clear(FIRST_LIST);
  t.deepEqual(listed(), [what]);
});

test('the memberships get of the first list what they cannot take from the whole, and later changes together in their order', async (t) => {
  const store = new FakeStore({ synced: false });
  const handled: string[][] = [];
  let release: () => void = () => undefined;
  const memberships = {
    handle: async (changes: readonly Change[]) => {
      handled.push(changes.map((change) => ('name' in change ? change.name : change.kind)));
      await new Promise<void>((resolve) => (release = resolve));
    },
  };
  let first = 0;
  const follower = follow({ store, problems: new Problems(), memberships }, () =>
    Promise.resolve(void first++),
  );
  t.teardown(() => follower.stop());
  // What is put from here on comes with the first list.
  store.isSynced = true;
  store.setAlive('b', 'i');
  store.putRemoval({ kind: 'node', name: 'gone', at: new Date(0).toISOString(), forced: false });
  store.sync();
  await until('the first list is handled', () => handled.length === 1, SOON);
  t.is(first, 1);
  t.deepEqual(handled, [['removal']]);
  for (const name of ['c', 'd', 'e']) store.setAlive(name, 'i');
  release();
  await until('the changes are handled', () => handled.length === 2, SOON);
  t.deepEqual(handled[1], ['c', 'd', 'e']);
  release();
});
