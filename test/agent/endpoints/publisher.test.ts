// Publishing a node’s endpoints to etcd.
import { setTimeout as sleep } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';

import { Publisher } from '../../../agent/endpoints/publisher.js';
import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { alreadyExists, permissionDenied, resourceExhausted } from '../../../core/errors.js';
import type { Endpoint } from '../../../core/records.js';
import { silentLogger } from '../../../daemon/log.js';
import { endpoint as record, node } from '../../controller/records.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, ip, membership, network } from '../../kernel/samples.js';
import { until } from '../../lab/wait.js';

// Publishing a node's endpoints to etcd.
//
// A write that etcd refuses is reported as a problem and retried until it succeeds.

const blue = network('blue', 4097, 100, false);

const sample = (id: string, options: Partial<Endpoint> = {}): Endpoint =>
  endpoint(membership(blue), id.padEnd(16, '0'), 5, `/run/netns/${id}`, options);

/** The publisher of node1, which has these endpoints. */
function publishing(t: ExecutionContext, ...attached: Endpoint[]) {
  const [store, problems] = [new FakeStore(), new Problems()];
  const publisher = new Publisher({
    store,
    problems,
    log: silentLogger,
    metrics: agentMetrics(),
    node: 'node1',
    instance: 'own',
    current: () => attached,
  });
  store.putNetwork(blue);
  store.putNode(
    { name: 'node1', instance: 'own', publicIp: '192.0.2.1', version: '', startedAt: '' },
    { alive: true },
  );
  t.teardown(store.subscribe((changes) => publisher.handle(changes)));
  t.teardown(() => publisher.stop());
  const isPublished = ({ id }: Endpoint): boolean => store.view.endpoints.get('blue')?.has(id) === true;
  return { store, problems, publisher, isPublished };
}

test('an endpoint whose claim is another’s after etcd lost data is published, with a problem', async (t) => {
  const mine = sample('a1', { ip: '10.100.2.50/32' });
  const { store, problems, publisher, isPublished } = publishing(t, mine);
  store.putClaim({
    network: 'blue',
    ip: ip('10.100.2.50'),
    node: 'node3',
    endpoint: 'e3',
    state: 'granted',
  });
  store.putRecordOf(mine);
  publisher.resync();
  await until('it is a problem', () => problems.list().length === 1);
  const [problem] = problems.list();
  t.regex(problem?.why ?? '', /10\.100\.2\.50 is used by e3/);
  t.true(isPublished(mine));
});

test('a claim that somebody has written over is written back', async (t) => {
  const mine = sample('a1', { ip: '10.100.2.50/32' });
  const { store, problems, publisher } = publishing(t, mine);
  const claim = { network: 'blue', ip: ip('10.100.2.50'), state: 'granted' } as const;
  const holder = () => store.view.claims.get('blue')?.get('10.100.2.50')?.node;
  publisher.publish(mine);
  await until('the claim', () => holder() === 'node1');
  store.putClaim({ ...claim, node: 'node3', endpoint: 'e3' });
  await until('it is this node’s again', () => holder() === 'node1', { timeoutMs: 1000 });
  // One of all hosts is no other’s.
  store.putClaim({ ...claim, node: 'node3', endpoint: mine.id });
  await publisher.stop();
  t.is(holder(), 'node3');
  t.deepEqual(problems.list(), []);
});

test('an endpoint whose name is taken is published once the name is free', async (t) => {
  const web = sample('a1', { name: 'web', explicitName: true });
  const old = sample('b2', { name: 'web', explicitName: true, node: 'node2' });
  const { store, problems, publisher, isPublished } = publishing(t, web);
  store.putRecordOf(old);
  publisher.resync();
  await until('it is a problem', () => problems.list().length === 1);
  t.regex(problems.list()[0]?.what ?? '', /endpoint web of network blue/);
  t.is(publisher.pending, 1, 'not published yet');
  await store.deleteEndpoint('blue', old.id);
  await until('it is published', () => isPublished(web), { timeoutMs: 2000 });
  await until('nothing is pending', () => publisher.pending === 0);
  t.deepEqual(problems.list(), []);
});

test('the name of a gone node is free, with and without etcd', async (t) => {
  const web = sample('a1', { name: 'web', explicitName: true });
  const { store, publisher, isPublished } = publishing(t, web);
  store.putRecordOf(sample('b2', { name: 'web', explicitName: true, node: 'node2' }));
  const old = { name: 'node2', instance: 'old', publicIp: '192.0.2.1', version: '', startedAt: '' };
  store.putNode({ ...old, publicIp: '192.0.2.2' }, { alive: false });
  await t.throwsAsync(publisher.reserveName(web), { message: /the name web is taken .* on node2/ });
  // This node is installed anew on the other's machine.
  store.putNode(old, { alive: false });
  store.setConnected(false);
  await t.notThrowsAsync(publisher.reserveName(web));
  t.false(isPublished(web));
  store.setConnected(true);
  await publisher.reserveName(web);
  t.true(isPublished(web));
});

test('a refused write is retried without an event, and not in a loop', async (t) => {
  const mine = sample('a1');
  const { store, problems, publisher, isPublished } = publishing(t, mine);
  const put = store.putEndpoint.bind(store);
  let attempts = 0;
  store.putEndpoint = (...args) => {
    attempts += 1;
    return attempts < 2 ? Promise.reject(alreadyExists('the name is taken')) : put(...args);
  };
  publisher.publish(mine);
  await until('it is refused', () => problems.list().length === 1);
  await sleep(2000);
  t.is(attempts, 1);
  await until('it is published', () => isPublished(mine));
  t.is(attempts, 2);
  t.deepEqual(problems.list(), []);
});

test('a refused endpoint that is removed is withdrawn, and its problem ends', async (t) => {
  const web = sample('a1', { name: 'web', explicitName: true });
  const { store, problems, publisher } = publishing(t);
  store.putRecordOf(sample('b2', { name: 'web', explicitName: true, node: 'node2' }));
  publisher.publish(web);
  await until('it is a problem', () => problems.list().length === 1);
  publisher.withdraw(web);
  await until('it is withdrawn', () => publisher.pending === 0);
  t.deepEqual(problems.list(), []);
});

for (const [what, error] of [
  ['is full', resourceExhausted('etcd takes no more data', 'Disarm the alarm.')],
  ['refuses the certificate', permissionDenied('etcd refused the call', 'Give another.')],
] as const) {
  test(`an etcd that ${what} is one problem; all is published when it accepts writes again`, async (t) => {
    const all = Array.from({ length: 40 }, (_, i) => sample(`c${i}x`, { name: `c${i}` }));
    const { store, problems, publisher, isPublished } = publishing(t, ...all);
    const put = store.putEndpoint.bind(store);
    let attempts = 0;
    store.putEndpoint = () => {
      attempts += 1;
      return Promise.reject(error);
    };
    publisher.resync();
    await until('it is a problem', () => problems.list().length > 0);
    await sleep(2500);
    t.deepEqual(problems.list(), [
      {
        what: 'publishing the endpoints of this node to etcd',
        why: error.message,
        fix: error.next ?? '',
      },
    ]);
    t.is(publisher.pending, 40);
    t.true(attempts <= 3 * 16, `${attempts} attempts in 2.5 s`);
    store.putEndpoint = put;
    await until('all are published', () => all.every(isPublished), { timeoutMs: 11_000 });
    await until('nothing is pending', () => publisher.pending === 0);
    t.deepEqual(problems.list(), []);
  });
}

// The publisher deletes stale records of its node from the store.
//
// Only while it owns the node's name.

for (const [holder, left] of [
  ['own', 0],
  ['another', 1],
  [undefined, 1],
] as const) {
  test(`resync while the node’s name is held by ${holder ?? 'no instance'}`, async (t) => {
    const store = new FakeStore();
    store.putNode(node('web', '192.0.2.1', { instance: holder ?? 'another' }), {
      alive: holder !== undefined,
    });
    store.putRecordOf(record('aa', 'blue', 'web'));
    const publisher = new Publisher({
      ...{ store, log: silentLogger, metrics: agentMetrics(), problems: new Problems() },
      ...{ node: 'web', instance: 'own', current: () => [] },
    });
    t.teardown(() => publisher.stop());
    publisher.resync();
    await until('everything is published', () => publisher.pending === 0);
    t.is(store.view.endpoints.get('blue')?.size ?? 0, left);
  });
}
