// Being on a network and leaving it, by what the store says, with a kernel and a store that are only modelled.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { Memberships } from '../../../agent/networks/memberships.js';
import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { State } from '../../../agent/state/state.js';
import { silentLogger } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';
import { lease, membership, network } from '../../kernel/samples.js';

const blue = network('blue', 4097, 100, false);

function setUp(t: ExecutionContext) {
  const root = mkdtempSync(join(tmpdir(), 'weft-memberships-'));
  t.teardown(() => rmSync(root, { recursive: true, force: true }));
  const kernel = new FakeKernel();
  const store = new FakeStore();
  const problems = new Problems();
  const shared = { kernel, problems, log: silentLogger };
  const reconciler = new Reconciler({
    ...{ ...shared, metrics: agentMetrics() },
    onSandboxGone: () => undefined,
    onUnderlay: () => undefined,
  });
  const state = new State(join(root, 'state'));
  const { instance } = state.load();
  const memberships = new Memberships({
    ...{ ...shared, store, reconciler, state, instance, node: 'node1', runDir: join(root, 'run') },
    subnetTtlSeconds: 3600,
    underlay: () => membership(blue).underlay,
  });
  t.teardown(() => memberships.stop());
  return { store, state, memberships };
}

const REMOVED = '2026-11-21T12:00:00.000Z';

for (const [since, stays] of [
  ['2026-11-21T11:59:59.000Z', false],
  ['2026-11-21T12:00:01.000Z', true],
] as const) {
  test(`a removal ${stays ? 'before' : 'after'} the node was on the network, told by the first list`, async (t) => {
    const { store, state, memberships } = setUp(t);
    store.putRemoval({ kind: 'network', name: 'blue', at: REMOVED, forced: false });
    await memberships.restore([{ network: blue, lease: { ...lease(blue, 1), since }, granted: [] }]);
    await memberships.resume();
    t.is(memberships.get('blue') !== undefined, stays);
    t.is(store.view.networks.has('blue'), stays, 'written back where it was lost');
    t.is(state.load().networks.length, stays ? 1 : 0);
  });
}

test('a removal is believed, whatever the clocks say, where the network was seen', async (t) => {
  const { store, memberships } = setUp(t);
  store.putNetwork(blue);
  const since = '2026-11-21T12:00:01.000Z';
  await memberships.restore([{ network: blue, lease: { ...lease(blue, 1), since }, granted: [] }]);
  await memberships.resume();
  store.subscribe((changes) => void memberships.handle(changes));
  await store.removeNetwork('blue', { force: true });
  store.putRemoval({ kind: 'network', name: 'blue', at: REMOVED, forced: false });
  await memberships.resume();
  t.is(memberships.get('blue'), undefined);
  t.false(store.view.networks.has('blue'));
});

test('no network is joined under a name that is another node’s', async (t) => {
  const { store, memberships } = setUp(t);
  store.putNetwork(blue);
  const other = { name: 'node1', instance: 'another', version: '', startedAt: '' };
  store.putNode({ ...other, publicIp: '192.0.2.9' });
  store.announce(() => ({ ...other, instance: 'own', publicIp: '192.0.2.1' }), {
    ttlSeconds: 3,
    onConflict: () => undefined,
  });
  await t.throwsAsync(memberships.join('blue'), { message: /the name node1 is another node's/ });
  t.is(store.view.leases.get('blue')?.size ?? 0, 0);
  t.is(memberships.get('blue'), undefined);
});
