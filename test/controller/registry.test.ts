// Node states by a clock that the test moves.
import test from 'ava';

import { Registry, type NodeReport, type SessionEnding } from '../../controller/registry.js';
import { Counters } from '../../controller/counters.js';
import { Problem, Status } from '../../proto/gen/weft/v1/types.js';
import { FakeStore } from '../fakes/store.js';
import { endpoint, FakeClock, lease, node } from './records.js';

function setUp(prepare: (store: FakeStore) => void = () => undefined) {
  const store = new FakeStore();
  const clock = new FakeClock();
  prepare(store);
  const reports = new Map<string, NodeReport>();
  const endings = new Map<string, SessionEnding>();
  const registry = new Registry({
    store,
    counters: new Counters(store),
    reports: { reportOf: (name) => reports.get(name), endingOf: (name) => endings.get(name) },
    clock,
  });
  const notified: string[][] = [];
  registry.subscribe((names) => notified.push([...names]));
  const state = (name: string) => registry.get(name).state;
  return { store, clock, reports, endings, registry, notified, state };
}

test('a node is up while its life lease exists', (t) => {
  const { store, clock, registry, state, notified } = setUp();
  store.putNode(node('n1', '192.0.2.1'));
  t.is(state('n1'), 'up');
  t.is(registry.get('n1').since, '2026-01-01T00:00:00.000Z');
  clock.pass(7000);
  t.is(registry.get('n1').lastSeen, '2026-01-01T12:00:07.000Z');
  store.setAlive('n1', undefined);
  clock.pass(500);
  t.is(state('n1'), 'down');
  t.is(registry.downSince('n1'), '2026-01-01T12:00:07.000Z');
  clock.pass(60_000);
  t.is(registry.get('n1').lastSeen, '2026-01-01T12:00:07.000Z');
  t.deepEqual(registry.count(), { up: 0, down: 1 });
  store.setAlive('n1', 'i-n1');
  t.is(state('n1'), 'up');
  t.is(registry.get('n1').since, '2026-01-01T12:01:07.500Z');
  t.deepEqual(notified, [['n1'], ['n1'], ['n1'], ['n1']]);
});

test('why a node is down: by its session, and by reports that still come', (t) => {
  const { store, clock, reports, endings, registry } = setUp();
  store.putNode(node('n1', '192.0.2.1'));
  const report = (): void => void reports.set('n1', { at: clock.now(), status: Status.fromPartial({}) });
  report();
  t.is(registry.whyDown('n1'), undefined);
  store.setAlive('n1', undefined);
  clock.pass(1000);
  t.regex(registry.whyDown('n1') ?? '', /does not answer: it hangs/);
  report();
  t.regex(registry.whyDown('n1') ?? '', /works, and does not reach etcd/);
  for (const [ending, why] of [
    ['stopped', /its agent was stopped/],
    ['closed', /crashed or was killed/],
    ['silent', /does not answer: it hangs/],
  ] as const) {
    endings.set('n1', ending);
    t.regex(registry.get('n1').why ?? '', why);
  }
  store.setAlive('n1', 'i-n1');
  t.is(registry.get('n1').why, undefined);
});

test('a life lease that is renewed a moment after it ended does not take the node down', (t) => {
  const { store, clock, registry, state } = setUp();
  store.putNode(node('n1', '192.0.2.1'));
  const { since } = registry.get('n1');
  clock.pass(60_000);
  store.setAlive('n1', undefined);
  clock.pass(400);
  t.is(state('n1'), 'up');
  store.setAlive('n1', 'i-n1');
  clock.pass(60_000);
  t.is(state('n1'), 'up');
  t.is(registry.get('n1').since, since);
});

test('after an outage of etcd no node is down before the grace period ends', (t) => {
  const { store, clock, state, notified } = setUp();
  store.putNode(node('n1', '192.0.2.1'));
  store.putNode(node('n2', '192.0.2.2'));
  store.setConnected(false);
  clock.pass(600_000);
  // The leases have expired meanwhile.
  store.setAlive('n1', undefined);
  store.setAlive('n2', undefined);
  t.deepEqual([state('n1'), state('n2')], ['up', 'up']);
  store.setConnected(true);
  clock.pass(1000);
  t.deepEqual([state('n1'), state('n2')], ['up', 'up']);
  store.setAlive('n1', 'i-n1');
  notified.length = 0;
  clock.pass(3900);
  t.deepEqual([state('n1'), state('n2')], ['up', 'up']);
  clock.pass(200);
  t.deepEqual([state('n1'), state('n2')], ['up', 'down']);
  t.deepEqual(notified, [['n2']]);
});

test('another outage within the grace period restarts it', (t) => {
  const { store, clock, state } = setUp();
  store.putNode(node('n1', '192.0.2.1'));
  store.setConnected(false);
  store.setAlive('n1', undefined);
  store.setConnected(true);
  clock.pass(2000);
  store.setConnected(false);
  clock.pass(60_000);
  t.is(state('n1'), 'up');
  store.setConnected(true);
  clock.pass(4000);
  t.is(state('n1'), 'up');
  clock.pass(60_000);
  t.is(state('n1'), 'down');
});

test('a clock set back does not extend the grace period', (t) => {
  const { store, clock, state } = setUp();
  store.putNode(node('n1', '192.0.2.1'));
  store.setConnected(false);
  store.setAlive('n1', undefined);
  store.setConnected(true);
  clock.set(-3_600_000);
  clock.pass(4900);
  t.is(state('n1'), 'up');
  clock.pass(200);
  t.is(state('n1'), 'down');
});

test('a restarted controller knows from etcd which nodes are up', (t) => {
  const { registry } = setUp((store) => {
    store.putNode(node('n1', '192.0.2.1'));
    store.putNode(node('n2', '192.0.2.2'), { alive: false });
  });
  const [first, second] = registry.names().map((name) => registry.get(name));
  t.like(first, { state: 'up', since: '2026-01-01T00:00:00.000Z' });
  t.like(second, { state: 'down', since: undefined, lastSeen: undefined });
});

test('a node shows its subnets, its endpoints and its reported problems', (t) => {
  const { store, registry, reports, clock } = setUp((it) =>
    it.putNode(node('n1', '192.0.2.1', { publicIp6: '2001:db8::1' })),
  );
  lease(store, 'green', '10.101.5.0/24', 'n1', '192.0.2.1');
  lease(store, 'blue', '10.100.5.0/24', 'n1', '192.0.2.1');
  lease(store, 'blue', '10.100.6.0/24', 'n2', '192.0.2.2');
  store.putRecordOf(endpoint('aa', 'blue', 'n1'));
  store.putRecordOf(endpoint('bb', 'green', 'n1'));
  store.putRecordOf(endpoint('cc', 'green', 'n2'));
  const problem = Problem.fromPartial({ what: 'link', why: 'gone', fix: 'look' });
  reports.set('n1', {
    at: clock.now(),
    status: Status.fromPartial({ networks: [{ name: 'removed' }], problems: [problem] }),
  });
  t.deepEqual(registry.get('n1'), {
    name: 'n1',
    publicIp: '192.0.2.1',
    publicIp6: '2001:db8::1',
    state: 'up',
    lastSeen: '2026-01-01T12:00:00.000Z',
    since: '2026-01-01T00:00:00.000Z',
    version: '0.1.0',
    networks: ['blue', 'green'],
    endpoints: 2,
    problems: [problem],
  });
});

test('a removed node is unknown, with a suggestion where another name is similar', async (t) => {
  const { store, registry } = setUp();
  store.putNode(node('host-1', '192.0.2.1'));
  store.putNode(node('host-2', '192.0.2.2'));
  await store.removeNode('host-1', { force: true });
  t.throws(() => registry.get('host-1'), { message: 'node host-1: there is no such node' });
  t.is(registry.find('host-1'), undefined);
  t.deepEqual(registry.names(), ['host-2']);
});
