// The subnets of a node's networks, against a store and a kernel that are only modelled: who has one when something fails,
// when another node has it, and when it is asked for again.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';

import test, { type ExecutionContext } from 'ava';

import { Attacher } from '../../../agent/endpoints/attach.js';
import { Addresses } from '../../../agent/endpoints/addresses.js';
import type { EndpointResolvConf } from '../../../agent/endpoints/resolv-conf.js';
import { Endpoints } from '../../../agent/endpoints/endpoints.js';
import { Memberships } from '../../../agent/networks/memberships.js';
import { agentMetrics } from '../../../agent/health/metrics.js';
import type { PublishedPorts } from '../../../agent/endpoints/published-ports.js';
import { networkScope } from '../../../agent/health/problem-key.js';
import { Problems } from '../../../agent/health/problems.js';
import type { Publisher } from '../../../agent/endpoints/publisher.js';
import { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { State } from '../../../agent/state/state.js';
import { IpNetwork } from '../../../core/address.js';
import { compileEndpoint, compilePeer } from '../../../core/compile.js';
import { failedPrecondition, notFound, resourceExhausted, unavailable } from '../../../core/errors.js';
import { objectKey, type KernelObject } from '../../../core/objects/index.js';
import type { Lease } from '../../../core/records.js';
import { silentLogger } from '../../../daemon/log.js';
import type { LeaseRequest, StoredLease } from '../../../store/store.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, ip, lease, membership, network } from '../../kernel/samples.js';
import { until } from '../../lab/wait.js';

const blue = network('blue', 4097, 100, false);
const LEASE = { scope: networkScope('blue'), kind: 'lease' } as const;
const MOVED = { scope: networkScope('blue'), kind: 'moved-subnet' } as const;
const mine: StoredLease = { ...lease(blue, 1), etcdLease: '1' };

/** What a test decides of etcd's answers. */
class Etcd extends FakeStore {
  /** Instead of what the fake would do. */
  acquire: ((request: LeaseRequest) => Promise<StoredLease>) | undefined;
  renew: (() => Promise<void>) | undefined;
  /** Before what the fake does. */
  beforeRelease: (() => Promise<void>) | undefined;
  beforeAnswer: (() => Promise<void>) | undefined;

  override async acquireLease(request: LeaseRequest): Promise<StoredLease> {
    return this.acquire === undefined ? super.acquireLease(request) : this.acquire(request);
  }

  override async renewLease(there: StoredLease, ttlSeconds: number): Promise<StoredLease> {
    await this.renew?.();
    return super.renewLease(there, ttlSeconds);
  }

  override async releaseLease(there: Lease): Promise<void> {
    await this.beforeRelease?.();
    return super.releaseLease(there);
  }

  override async answerClaim(...args: Parameters<FakeStore['answerClaim']>): Promise<boolean> {
    await this.beforeAnswer?.();
    return super.answerClaim(...args);
  }
}

/** Node node1, which remembers that it is on blue with 10.100.1.0/24. */
async function remembering(
  t: ExecutionContext,
  options: { ttlSeconds?: number; leaseRetryMs?: number; meanwhile?: (store: FakeStore) => void } = {},
) {
  const folder = mkdtempSync(join(tmpdir(), 'weft-memberships-'));
  const state = new State(folder);
  state.load();
  const store = new Etcd();
  store.putNetwork(blue);
  options.meanwhile?.(store);
  const problems = new Problems();
  const kernel = new FakeKernel();
  const reconciler = new Reconciler({
    ...{ kernel, problems, log: silentLogger, metrics: agentMetrics() },
    onSandboxGone: () => undefined,
    onUnderlay: () => undefined,
  });
  const underlay = { ip: ip('192.0.2.1'), mtu: 1500, link: 'eth0', onLink: [] };
  const memberships = new Memberships({
    ...{ kernel, store, reconciler, problems, log: silentLogger, runDir: folder },
    state,
    node: 'node1',
    instance: 'node1',
    subnetTtlSeconds: options.ttlSeconds ?? 3600,
    underlay: () => underlay,
    ...(options.leaseRetryMs !== undefined && { leaseRetryMs: options.leaseRetryMs }),
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
  const inert = {
    ...{ publish: () => undefined, withdraw: () => undefined, trySet: () => undefined },
    ...{ close: () => Promise.resolve(), follow: () => Promise.resolve(), left: () => Promise.resolve() },
  };
  const parts = {
    ...{ reconciler, memberships, state, problems, log: silentLogger },
    addresses: new Addresses({ store, memberships, node: 'node1', nameOf: () => undefined }),
    publisher: inert as unknown as Publisher,
    ports: inert as unknown as PublishedPorts,
    resolvConf: inert as unknown as EndpointResolvConf,
  };
  const endpoints = new Endpoints(parts);
  const attacher = new Attacher({
    ...{ ...parts, kernel, endpoints, node: 'node1' },
    ...{ docker: { socketPath: '/nonexistent' }, runs: () => undefined },
  });
  memberships.listen(endpoints);
  return {
    ...{ kernel, reconciler, store, state, memberships, problems, underlay, endpoints, attacher, folder },
    handled: () => handled,
    subnetEnv: () => readFileSync(join(folder, 'subnets', 'blue.env'), 'utf8'),
  };
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

const exhausted = (): Promise<StoredLease> =>
  Promise.reject(resourceExhausted('network blue: no /24 is left'));

test('a subnet that is another’s since this node was down is not given out of, though there is no other', async (t) => {
  const { store, memberships, problems } = await remembering(t, {
    meanwhile: (etcd) => void etcd.putLease({ ...lease(blue, 2), subnet: mine.subnet }),
  });
  t.truthy(await memberships.join('blue'), 'what is remembered holds until etcd says otherwise');
  store.acquire = exhausted;
  await memberships.resume();
  await t.throwsAsync(memberships.join('blue'), { message: /10\.100\.1\.0\/24 .* belongs to node2/ });
  t.regex(problems.get(LEASE)?.why ?? '', /no \/24 is left/);
});

test('nor is that of the living machine that this one is a copy of', async (t) => {
  const { store, memberships } = await remembering(t, {
    meanwhile: (etcd) => {
      etcd.putLease({ ...lease(blue, 1), node: 'original' });
      etcd.setAlive('original', 'node1');
    },
  });
  store.acquire = () => Promise.reject(failedPrecondition('the same instance id'));
  await memberships.resume();
  await t.throwsAsync(memberships.join('blue'), { message: /belongs to original/ });
});

test('a subnet that vanished and could not be taken again is this node’s all the same', async (t) => {
  const { store, memberships } = await remembering(t);
  store.acquire = exhausted;
  await memberships.resume();
  t.is((await memberships.join('blue')).lease.subnet.toString(), '10.100.1.0/24');
});

test('a node without a subnet takes one as soon as another gives its own back', async (t) => {
  const { store, memberships, problems, handled } = await remembering(t);
  await memberships.resume();
  const third = store.putLease(lease(blue, 3));
  store.acquire = exhausted;
  store.putLease({ ...lease(blue, 2), subnet: mine.subnet });
  await handled();
  await t.throwsAsync(memberships.join('blue'), { message: /belongs to node2/ });
  store.acquire = async ({ publicIp }) => ({ ...mine, subnet: third.subnet, publicIp });
  await store.releaseLease(third);
  await handled();
  t.is((await memberships.join('blue')).lease.subnet.toString(), '10.100.3.0/24');
  t.is(problems.get(LEASE), undefined);
});

test('a subnet that etcd refused is asked for again, though nothing is told', async (t) => {
  const { store, memberships, problems } = await remembering(t, { leaseRetryMs: 10 });
  let asked = 0;
  store.acquire = async () => {
    if (++asked <= 3) throw unavailable('etcd has no space');
    return mine;
  };
  await memberships.resume();
  t.regex(problems.get(LEASE)?.why ?? '', /no space/);
  await until('it is had', () => problems.get(LEASE) === undefined, { everyMs: 5 });
  t.is(asked, 4);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.is(asked, 4, 'and not asked for any more');
});

test('a network that etcd has lost, and that nobody could write back, is written back in a retry', async (t) => {
  const { store, memberships, problems, handled } = await remembering(t, { leaseRetryMs: 10 });
  await memberships.resume();
  const restore = store.restoreNetwork.bind(store);
  let asked = 0;
  store.restoreNetwork = async (...args) => {
    if (++asked <= 3) throw unavailable('no controller answers');
    return restore(...args);
  };
  store.acquire = async () => {
    if (store.view.networks.has('blue')) return mine;
    throw notFound('network blue does not exist any more');
  };
  store.loseEverything();
  await handled();
  t.regex(problems.get(LEASE)?.why ?? '', /does not exist any more/);
  await until('it is there', () => store.view.networks.has('blue'), { everyMs: 5 });
  await until('its subnet is had', () => problems.get(LEASE) === undefined, { everyMs: 5 });
  t.is(asked, 4);
});

test('a subnet that is taken in a retry, and that the kernel cannot be told of, is told of in the next', async (t) => {
  const { kernel, reconciler, store, memberships, problems, subnetEnv } = await remembering(t, {
    leaseRetryMs: 10,
  });
  await reconciler.start();
  reconciler.allowPruning();
  store.acquire = exhausted;
  await memberships.resume();
  kernel.beforeApply = () => Promise.reject(new Error('the netlink socket is closed'));
  store.acquire = async () => ({ ...mine, subnet: lease(blue, 5).subnet });
  await until('it is a problem', () => problems.get(LEASE)?.why === 'the netlink socket is closed', {
    everyMs: 5,
  });
  t.notRegex(subnetEnv(), /10\.100\.5\./);
  kernel.beforeApply = undefined;
  await until('it is none any more', () => problems.get(LEASE) === undefined, { everyMs: 5 });
  t.regex(subnetEnv(), /10\.100\.5\./);
});

test('who waits for the file with the subnet does not wait for the kernel', async (t) => {
  const { memberships, store, reconciler, kernel, folder } = await remembering(t);
  await reconciler.start();
  store.putNetwork(network('red', 4098, 101, false));
  const file = join(folder, 'subnets', 'red.env');
  const seen: boolean[] = [];
  kernel.beforeApply = () => void seen.push(existsSync(file));
  await memberships.join('red');
  t.true(seen.length > 0);
  t.deepEqual(
    seen.filter((isThere) => !isThere),
    [],
  );
});

test('containers of a subnet that the node has no more are told of until they are gone', async (t) => {
  const { store, memberships, problems, endpoints } = await remembering(t);
  const [one, two] = ['1', '2'].map((id) =>
    endpoint(membership(blue), id, 10 + Number(id), `/run/netns/${id}`),
  );
  if (one === undefined || two === undefined) return t.fail();
  await endpoints.restore([one, two]);
  store.acquire = async () => ({ ...mine, subnet: lease(blue, 5).subnet });
  await memberships.resume();
  t.regex(problems.get(MOVED)?.why ?? '', /had 10\.100\.1\.0\/24.* has 10\.100\.5\.0\/24/);
  await endpoints.remove(one);
  t.truthy(problems.get(MOVED));
  // Attached again: with an address of the subnet that the node has now.
  await endpoints.remove(two);
  await endpoints.restore([{ ...two, ip: '10.100.5.12/24' }]);
  t.is(problems.get(MOVED), undefined);
});

test('a node without containers has nothing to say of another subnet', async (t) => {
  const { store, memberships, problems } = await remembering(t);
  store.acquire = async () => ({ ...mine, subnet: lease(blue, 5).subnet });
  await memberships.resume();
  t.is(memberships.get('blue')?.lease.subnet.toString(), '10.100.5.0/24');
  t.deepEqual(problems.list(), []);
});

/** A node that joins network green, held while the firewall's rules for it are written. */
async function joiningGreen(t: ExecutionContext) {
  const node = await remembering(t);
  const { kernel, reconciler, store, memberships, handled } = node;
  await reconciler.start();
  reconciler.allowPruning();
  const green = network('green', 4098, 101, false);
  store.putNetwork(green);
  await handled();
  const writing = new Promise<() => void>((resolve) => {
    kernel.firewall.beforeEnsure = () => new Promise((release) => resolve(release));
  });
  const joining = memberships.join('green');
  const release = await writing;
  kernel.firewall.beforeEnsure = undefined;
  return {
    ...node,
    green,
    joined: async () => {
      // What was asked for meanwhile gets as far as it can.
      await turn();
      release();
      return joining;
    },
    missing: async (wanted: readonly KernelObject[]) => {
      const { objects } = await kernel.node.observe([]);
      return wanted.map(objectKey).filter((key) => !objects.has(key));
    },
  };
}

test('a peer that joins while this node does is reached at once, not after the next comparison', async (t) => {
  const { store, problems, green, handled, joined, missing } = await joiningGreen(t);
  const peer = store.putLease(lease(green, 2));
  const own = await joined();
  await handled();
  const wanted = compilePeer(own, peer);
  t.is(wanted.length, 3);
  t.deepEqual(await missing(wanted), []);
  t.deepEqual(problems.list(), []);
});

test('a container that is connected while the node joins its network waits for the network’s links', async (t) => {
  const { memberships, attacher, joined, missing } = await joiningGreen(t);
  const membership = await memberships.join('green');
  const early = endpoint(membership, 'early', 11, '/var/run/docker/netns/early', {
    sandbox: { path: '/var/run/docker/netns/early', cookie: '', bootId: '' },
    manager: 'docker',
  });
  const connecting = attacher.connect(early);
  await joined();
  await t.notThrowsAsync(connecting);
  t.deepEqual(await missing(compileEndpoint(membership, early).host), []);
});

/** A call that waits until the test lets it go on. */
function gate(): { passed: () => Promise<void>; reached: Promise<void>; open: () => void } {
  let arrive = (): void => {};
  let open = (): void => {};
  const reached = new Promise<void>((resolve) => (arrive = resolve));
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { passed: () => (arrive(), opened), reached, open };
}

/** Lets what runs get as far as it can. */
async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await turn();
}

const MEANWHILE: Record<string, (node: Awaited<ReturnType<typeof remembering>>) => Promise<void>> = {
  'an underlay that changes': ({ memberships }) => memberships.underlayChanged(),
  'a config that changes': ({ store, handled }) => (
    store.putNetwork({ ...blue, masquerade: false }),
    handled()
  ),
  'etcd that answers again': ({ memberships }) => memberships.reconnected(),
};
for (const [what, change] of Object.entries(MEANWHILE)) {
  test(`${what} while the node leaves a network brings back neither its subnet nor its file`, async (t) => {
    const node = await remembering(t);
    const { store, state, memberships } = node;
    await memberships.resume();
    const { passed, reached, open } = gate();
    store.beforeRelease = passed;
    const leaving = memberships.leave('blue');
    await reached;
    const changing = change(node);
    await turns();
    open();
    await Promise.all([leaving, changing]);
    t.is(store.view.leases.get('blue')?.size ?? 0, 0);
    t.deepEqual(state.load().networks, []);
  });
}

test('nor does a claim that is answered while the node leaves', async (t) => {
  const { store, state, memberships, handled } = await remembering(t);
  await memberships.resume();
  const { passed, reached, open } = gate();
  store.beforeAnswer = passed;
  for (const [number, node] of ['node2', 'node3'].entries())
    store.putClaim({
      network: 'blue',
      ip: ip(`10.100.1.${50 + number}`),
      node,
      endpoint: node,
      state: 'asked',
    });
  await reached;
  const leaving = memberships.leave('blue');
  await turns();
  open();
  await Promise.all([leaving, handled()]);
  t.deepEqual(state.load().networks, []);
});

test('what changes while the node joins a network is followed when it has', async (t) => {
  const { store, memberships, handled } = await remembering(t);
  const green = network('green', 4098, 101, false);
  store.putNetwork(green);
  const { passed, reached, open } = gate();
  store.acquire = async (request) => {
    await passed();
    return { ...lease(green, 1), publicIp: request.publicIp, etcdLease: '2' };
  };
  const joining = memberships.join('green');
  await reached;
  store.putNetwork({ ...green, masquerade: false });
  const asked = ip('10.101.1.50');
  store.putClaim({ network: 'green', ip: asked, node: 'node2', endpoint: 'c2', state: 'asked' });
  await turns();
  open();
  await joining;
  await handled();
  t.is(memberships.get('green')?.network.masquerade, false);
  t.is(store.view.claims.get('green')?.get(asked.toString())?.state, 'granted');
});

test('a network that is not in the view yet is joined, and without etcd nobody knows whether it is there', async (t) => {
  const { store, memberships } = await remembering(t);
  const fresh = network('fresh', 4099, 101, false);
  // Etcd has it, and its event is on the way.
  store.seeNetwork = async () => {
    await Promise.resolve();
    store.putNetwork(fresh);
  };
  t.is((await memberships.join('fresh')).network.name, 'fresh');
  store.seeNetwork = () => Promise.resolve();
  await t.throwsAsync(memberships.join('frish'), { message: 'network frish: there is no such network' });
  store.seeNetwork = () => Promise.reject(unavailable('etcd does not answer'));
  await t.throwsAsync(memberships.join('frish'), { message: 'etcd does not answer' });
});

test('a network that is left and joined again has the subnet that it had, though it is another network', async (t) => {
  const { store, memberships, handled, state, folder } = await remembering(t);
  await memberships.resume();
  await memberships.leave('blue');
  await store.removeNetwork('blue', { force: true });
  await handled();
  store.putNetwork(network('again', 4099, 100, false));
  await handled();
  t.is((await memberships.join('again')).lease.subnet.toString(), '10.100.1.0/24');
  for (let n = 0; n < 300; n++) {
    const whole = IpNetwork.parse(`172.16.${n % 256}.${n < 256 ? 0 : 128}/${n < 256 ? 24 : 25}`);
    state.saveFormerSubnet(whole, whole);
  }
  t.is(readdirSync(join(folder, 'former-subnets')).length, 256, 'so many are kept');
});

for (const [where, own, nat] of [
  ['', '192.0.2.1', undefined],
  [' behind NAT', '203.0.113.1', { ip: ip('203.0.113.1') }],
] as const) {
  test(`the lease of a node${where} is written back where somebody else has changed it`, async (t) => {
    const { store, handled, underlay } = await remembering(t);
    if (nat !== undefined) Object.assign(underlay, { nat });
    const written: string[] = [];
    store.acquire = async (request) => {
      written.push(request.publicIp.toString());
      return store.putLease({ ...mine, publicIp: request.publicIp });
    };
    store.putLease({ ...mine, publicIp: ip('192.0.2.66') });
    await handled();
    await until('the lease is written back', () => written.length > 0);
    await handled();
    t.is(store.view.leases.get('blue')?.get('10.100.1.0/24')?.publicIp.toString(), own);
    t.deepEqual(written, [own]);
  });
}
