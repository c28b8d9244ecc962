// The subnets of a node's networks, against a store and a kernel that are only modelled: who has one when something fails,
// when another node has it, and when it is asked for again.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { Memberships } from '../../agent/memberships.js';
import { agentMetrics } from '../../agent/metrics.js';
import { Problems } from '../../agent/problems.js';
import { Reconciler } from '../../agent/reconciler.js';
import { State } from '../../agent/state.js';
import { silentLogger } from '../../daemon/log.js';
import type { LeaseRequest, StoredLease } from '../../store/store.js';
import { FakeKernel } from '../fakes/kernel.js';
import { FakeStore } from '../fakes/store.js';
import { ip, lease, network } from '../kernel/samples.js';

const blue = network('blue', 4097, 100, false);
const mine: StoredLease = { ...lease(blue, 1), etcdLease: '1' };

/** What a test decides of etcd's answers. */
class Etcd extends FakeStore {
  /** Instead of what the fake would do. */
  acquire: ((request: LeaseRequest) => Promise<StoredLease>) | undefined;
  renew: (() => Promise<void>) | undefined;

  override async acquireLease(request: LeaseRequest): Promise<StoredLease> {
    return this.acquire === undefined ? super.acquireLease(request) : this.acquire(request);
  }

  override async renewLease(there: StoredLease, ttlSeconds: number): Promise<StoredLease> {
    await this.renew?.();
    return super.renewLease(there, ttlSeconds);
  }
}

/** Node node1, which remembers that it is on blue with 10.100.1.0/24. */
async function remembering(t: ExecutionContext, options: { ttlSeconds?: number } = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'weft-memberships-'));
  const store = new Etcd();
  store.putNetwork(blue);
  const problems = new Problems();
  const kernel = new FakeKernel();
  const reconciler = new Reconciler({
    ...{ kernel, problems, log: silentLogger, metrics: agentMetrics() },
    onVanished: () => undefined,
    onUnderlay: () => undefined,
  });
  const underlay = { ip: ip('192.0.2.1'), mtu: 1500, link: 'eth0' };
  const memberships = new Memberships({
    ...{ kernel, store, reconciler, problems, log: silentLogger, runDir: folder },
    state: new State(folder),
    node: 'node1',
    instance: 'node1',
    subnetTtlSeconds: options.ttlSeconds ?? 3600,
    underlay: () => underlay,
  });
  let handled = Promise.resolve();
  const unsubscribe = store.subscribe((changes) => {
    handled = handled.then(() => memberships.handle(changes));
  });
  t.teardown(async () => {
    unsubscribe();
    await memberships.stop();
    await reconciler.stop();
    rmSync(folder, { recursive: true });
  });
  await memberships.restore([{ network: blue, lease: mine, granted: [] }]);
  return { store, memberships, problems, underlay, handled: () => handled };
}

test('a renewal and a change of the lease come one after the other', async (t) => {
  const { store, memberships, underlay } = await remembering(t, { ttlSeconds: 0.06 });
  let renewing = 0;
  let most = 0;
  const alone = async (): Promise<void> => {
    most = Math.max(most, ++renewing);
    await new Promise((resolve) => setTimeout(resolve, 30));
    renewing--;
  };
  let renewals = 0;
  store.renew = async () => {
    await alone();
    renewals++;
  };
  store.acquire = async (request) => {
    await alone();
    return { ...mine, publicIp: request.publicIp };
  };
  await memberships.resume();
  for (let last = 2; last < 200 && renewals < 3; last++) {
    underlay.ip = ip(`192.0.2.${last}`);
    await memberships.underlayChanged();
    await new Promise((resolve) => setTimeout(resolve, 45));
  }
  t.true(renewals >= 3);
  t.is(most, 1);
});
