// AddressClaims as one node sees them when etcd has lost its past: an address that somebody has is granted to nobody else, its way
// stays, and what cannot be honoured is told.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';

import test, { type ExecutionContext } from 'ava';

import { Addresses } from '../../../agent/endpoints/addresses.js';
import { Memberships } from '../../../agent/networks/memberships.js';
import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { State } from '../../../agent/state/state.js';
import type { IpAddress } from '../../../core/address.js';
import { routeKey } from '../../../core/objects/index.js';
import type { Claim } from '../../../core/records.js';
import { silentLogger } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { allOrNothing } from '../../../daemon/rollback.js';
import { FakeStore } from '../../fakes/store.js';
import { ip, lease, membership, network } from '../../kernel/samples.js';
import { until } from '../../lab/wait.js';

const blue = network('blue', 4097, 100, false);
const HERE = '10.100.1.50';
const THERE = '10.100.2.50';

const claim = (
  address: string,
  node: string,
  endpoint: string,
  state: Claim['state'] = 'granted',
): Claim => ({
  network: 'blue',
  ip: ip(address),
  node,
  endpoint,
  state,
});

/** The agent of node1, which has 10.100.1.0/24 of network blue, beside node2 and node3. */
async function agent(t: ExecutionContext) {
  const folder = mkdtempSync(join(tmpdir(), 'weft-claims-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const [kernel, store, problems] = [new FakeKernel(), new FakeStore(), new Problems()];
  const common = { kernel, store, problems, log: silentLogger, node: 'node1', instance: 'node1' };
  /** A start; what the state directory has is taken up. */
  const start = async () => {
    const state = new State(folder);
    const { networks } = state.load();
    const reconciler = new Reconciler({
      ...common,
      metrics: agentMetrics(),
      onSandboxGone: () => undefined,
      onUnderlay: () => undefined,
    });
    const memberships = new Memberships({
      ...common,
      reconciler,
      state,
      runDir: folder,
      subnetTtlSeconds: 60,
      underlay: () => membership(blue).underlay,
    });
    const addresses = new Addresses({ store, memberships, node: 'node1', nameOf: () => 'c1' });
    memberships.listen({
      changed: () => Promise.resolve(),
      left: () => Promise.resolve(),
      isUsed: () => false,
      refusal: (name, text, endpoint) => {
        const holder = addresses.holder(name, text);
        return holder === undefined || holder === endpoint ? undefined : `${text} is in use by ${holder}`;
      },
    });
    await memberships.restore(networks);
    reconciler.allowPruning();
    await reconciler.start();
    await memberships.resume();
    let work = Promise.resolve();
    const unsubscribe = store.subscribe((changes) => {
      memberships.note(changes);
      work = work.then(() => memberships.handle(changes));
    });
    const stop = async (): Promise<void> => {
      unsubscribe();
      await work;
      await memberships.stop();
      await reconciler.stop();
    };
    const take = (asked: IpAddress) => {
      const there = memberships.get('blue') ?? membership(blue);
      const wanted = { membership: there, subnet: there.lease.subnet, asked, holder: 'mine' };
      return allOrNothing(silentLogger, 'mine', (rollback) => addresses.take(wanted, rollback));
    };
    return { memberships, addresses, take, stop, handled: () => work };
  };
  store.putNetwork(blue);
  for (const number of [2, 3]) store.putLease(lease(blue, number));
  const first = await start();
  await first.memberships.join('blue', { previous: { subnet: lease(blue, 1).subnet } });
  const way = async (address: string): Promise<string | undefined> => {
    const { objects } = await kernel.node.observe([]);
    const found = objects.get(routeKey(`${address}/32`))?.object;
    return found?.kind === 'route' ? found.via : undefined;
  };
  return { store, problems, first, start, way };
}

/** The answer to what another node asks. */
async function ask(store: FakeStore, asked: Claim): Promise<Claim | undefined> {
  store.putClaim({ ...asked, state: 'asked' });
  const now = (): Claim | undefined => store.view.claims.get('blue')?.get(asked.ip.toString());
  await until('it is answered', () => now()?.state !== 'asked');
  const answer = now();
  if (answer?.state === 'refused') await store.deleteClaim('blue', asked.ip.toString(), asked.endpoint);
  return answer;
}

test.serial('what is in a subnet that went with etcd’s past is not free', async (t) => {
  const { store, first } = await agent(t);
  t.teardown(first.stop);
  const asked = ip(THERE);
  store.putClaim(claim('10.100.77.5', 'node3', 'e3'));
  await first.handled();
  store.loseEverything();
  // Before the agent has come to handle it: somebody else has written the config back.
  store.putNetwork(blue);
  await t.throwsAsync(first.take(asked), { message: /10\.100\.2\.0\/24, the subnet of node node2/ });
  await first.handled();
  await t.throwsAsync(first.take(asked), { code: 'FAILED_PRECONDITION' } as never);
  await t.throwsAsync(first.take(ip('10.100.77.5')), { message: /is endpoint e3's on node node3/ });
  store.putRemoval({ kind: 'node', name: 'node2', at: '2026-01-01T00:00:00Z', forced: false });
  await first.handled();
  t.is((await first.take(asked)).toString(), THERE, 'its node is not wanted any more');
});

test.serial('who has agreed does not agree to another while etcd has lost the claim', async (t) => {
  const { store, first, way } = await agent(t);
  t.teardown(first.stop);
  t.like(await ask(store, claim(HERE, 'node2', 'e2')), { state: 'granted' });
  await first.handled();
  t.is(await way(HERE), '10.100.2.0');
  store.loseEverything();
  store.putNetwork(blue);
  for (const number of [1, 3]) store.putLease(lease(blue, number));
  for (let i = 0; i < 2; i++) {
    const answer = await ask(store, claim(HERE, 'node3', 'e3'));
    t.is(answer?.state, 'refused');
    t.regex(answer?.why ?? '', /endpoint e2 on node node2/);
    await first.handled();
    t.is(await way(HERE), '10.100.2.0', 'the way stays');
    t.true(first.memberships.isGranted('blue', HERE));
  }
  store.putLease(lease(blue, 2));
  t.true(await store.restoreClaim(claim(HERE, 'node2', 'e2')));
  await first.handled();
  t.is(await way(HERE), '10.100.2.0');
  await store.deleteClaim('blue', HERE, 'e2');
  await first.handled();
  t.is(await way(HERE), undefined);
  t.like(await ask(store, claim(HERE, 'node3', 'e3')), { state: 'granted' });
});

test.serial('a claim on what a container here has is told, and leads nothing away', async (t) => {
  const { store, problems, first, way } = await agent(t);
  t.teardown(first.stop);
  first.addresses.hold('blue', HERE, 'mine');
  store.putClaim(claim(HERE, 'node2', 'e2'));
  await first.handled();
  t.is(await way(HERE), undefined);
  const [problem] = problems.list();
  t.is(problem?.what, `address ${HERE} of network blue, which node node2 claims`);
  t.regex(problem?.fix ?? '', /Detach one of the two/);
  t.regex(problem?.why ?? '', /endpoint e2 on node node2 .* in use by mine/);
  first.addresses.free('blue', HERE, 'mine');
  await until('it is agreed to', () => problems.list().length === 0);
  t.is(await way(HERE), '10.100.2.0');
  t.true(first.memberships.isGranted('blue', HERE));
});

test.serial('the route to a claimed address stays while the lease of its user is retained', async (t) => {
  const { store, first, way } = await agent(t);
  t.teardown(first.stop);
  store.setAlive('node2', 'node2');
  store.putClaim(claim(THERE.replace('2.50', '3.50'), 'node2', 'e2'));
  await first.handled();
  t.is(await way('10.100.3.50'), '10.100.2.0');
  await store.releaseLease(lease(blue, 2));
  await first.handled();
  t.is(await way('10.100.3.50'), '10.100.2.0');
  store.putLease(lease(blue, 3));
  await first.handled();
  t.is(await way('10.100.3.50'), '10.100.2.0', 'also when others change');
});

test.serial('what was given back while the agent was down is free again, once that is certain', async (t) => {
  const { store, first, start } = await agent(t);
  for (const [address, node] of [
    ['10.100.1.50', 'node2'],
    ['10.100.1.51', 'node3'],
  ] as const) {
    t.like(await ask(store, claim(address, node, `e-${node}`)), { state: 'granted' });
  }
  await first.stop();
  for (const node of ['node2', 'node3']) {
    await store.deleteClaim('blue', node === 'node2' ? '10.100.1.50' : '10.100.1.51', `e-${node}`);
  }
  store.setAlive('node2', 'node2');
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const second = await start();
    const isGranted = (address: string): boolean => second.memberships.isGranted('blue', address);
    t.true(isGranted('10.100.1.50') && isGranted('10.100.1.51'), 'etcd may have lost them');
    mock.timers.tick(60_000);
    t.false(isGranted('10.100.1.50'), 'a node that is up would have said so');
    t.true(isGranted('10.100.1.51'));
    mock.timers.tick(3_600_000);
    t.false(isGranted('10.100.1.51'));
    await second.stop();
  } finally {
    mock.timers.reset();
  }
});
