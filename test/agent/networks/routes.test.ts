// Routes of peers and of the host.
import { mock } from 'node:test';

import test from 'ava';

import { nameApi } from '../../../agent/dns/api.js';
import type { Dns } from '../../../agent/dns/dns.js';
import { networkScope } from '../../../agent/health/problem-key.js';
import { Problems } from '../../../agent/health/problems.js';
import type { AddressClaims, Claimed } from '../../../agent/networks/address-claims.js';
import { PeerRoutes, type Records } from '../../../agent/networks/peer-routes.js';
import { hostRoutesBeside, RouteOverlaps } from '../../../agent/networks/route-overlaps.js';
import type { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import type { HostRoute } from '../../../core/host-routes.js';
import type { Claim, Removal } from '../../../core/records.js';
import { silentLogger } from '../../../daemon/log.js';
import type { Change } from '../../../store/store.js';
import { overlay } from '../../core/records.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, ip, lease, membership, network } from '../../kernel/samples.js';
import { path, request, startNode } from '../node.js';

// Which leases become routes: what any node may write into etcd is not all believed.

const blue = network('blue', 4097, 100, false);
const claimed = { membership: membership(blue), granted: new Map() } as unknown as Claimed;
const node2Removed: Removal = { kind: 'node', name: 'node2', at: '2026-01-01T00:00:00Z', forced: false };
const LIE = { scope: networkScope('blue'), kind: 'peer-lease', id: '10.100.2.0/24' } as const;

/** Node node1 on blue, and what is routed after each change. */
function routes() {
  const store = new FakeStore();
  store.putNetwork(blue);
  const problems = new Problems();
  const peers = new PeerRoutes({
    ...{ store, problems, log: silentLogger, node: 'node1', instance: 'node1' },
    reconciler: { set: () => Promise.resolve([]) } as unknown as Reconciler,
    claims: {
      of: () => [],
      ended: () => undefined,
      objects: (_claimed: Claimed, { node }: Claim) => [{ kind: 'route', via: node }],
    } as unknown as AddressClaims,
    member: () => claimed,
  });
  let changes: readonly Change[] = [];
  store.subscribe((batch) => {
    changes = batch;
    peers.note(batch);
  });
  const hasRoute = (records: Records, via: string): boolean =>
    [...records].some(([, objects]) => JSON.stringify(objects ?? []).includes(`"${via}"`));
  /** What a change asks for; by default the last one. */
  const asked = ([change] = changes): Records => {
    if (change?.kind === 'lease') return peers.ofLease(claimed, change);
    if (change?.kind === 'claim') return peers.ofClaim(claimed, change);
    if (change?.kind === 'endpoint') return peers.ofEndpoint(claimed, change);
    return peers.ofNode(claimed, change?.kind === 'node' ? change.name : '');
  };
  const node2 = (publicIp: string): void =>
    store.putNode({ name: 'node2', instance: 'node2', publicIp, version: '', startedAt: '' });
  /** What happens meanwhile has its turn afterwards, as while the kernel is busy. */
  const late = (happens: () => void): void => {
    const batches: (readonly Change[])[] = [];
    const unsubscribe = store.subscribe((batch) => void batches.push(batch));
    happens();
    unsubscribe();
    for (const batch of batches) asked(batch);
  };
  return { store, problems, peers, asked, hasRoute, node2, late };
}

test('a lease that somebody else turned to another host keeps its route, and is told', (t) => {
  const { store, problems, peers, asked, hasRoute, node2 } = routes();
  node2('192.0.2.2');
  store.putLease(lease(blue, 2));
  t.true(hasRoute(asked(), '192.0.2.2'));
  store.putLease({ ...lease(blue, 2), publicIp: ip('192.0.2.66') });
  const after = asked();
  t.true(hasRoute(after, '192.0.2.2'));
  t.false(hasRoute(after, '192.0.2.66'));
  t.regex(problems.get(LIE)?.why ?? '', /names 192\.0\.2\.66 .*its earlier state counts/);
  t.false(hasRoute(peers.of(claimed), '192.0.2.66'));

  // The node itself says so: it has moved.
  node2('192.0.2.66');
  t.true(hasRoute(asked(), '192.0.2.66'));
  t.is(problems.get(LIE), undefined);
});

test('a lease within an older one gets a route when that has ended', (t) => {
  const { store, peers, asked, hasRoute } = routes();
  store.putLease({ ...lease(blue, 2), since: '2026-01-01T00:00:00Z' });
  asked();
  const subnet = IpNetwork.parse('10.100.2.128/25');
  store.putLease({ ...lease(blue, 3), subnet, since: '2026-02-01T00:00:00Z' });
  t.false(hasRoute(asked(), '192.0.2.3'));
  t.false(hasRoute(peers.of(claimed), '192.0.2.3'));
  void store.releaseLease(lease(blue, 2));
  t.true(hasRoute(asked(), '192.0.2.3'));
});

test('a larger lease counts if it was there before its network asked for smaller ones', (t) => {
  const { store, asked, hasRoute } = routes();
  const subnet = IpNetwork.parse('10.100.2.0/23');
  store.putLease({ ...lease(blue, 2), subnet });
  t.false(hasRoute(asked(), '192.0.2.2'));
  store.putNetwork(blue);
  store.putLease({ ...lease(blue, 2), subnet, mtu: 1400 });
  t.true(hasRoute(asked(), '192.0.2.2'));
});

test('a claim on an address that an endpoint of its subnet’s node has gets no route, until it is free', (t) => {
  const { store, problems, asked, hasRoute } = routes();
  const key = { scope: networkScope('blue'), kind: 'peer-claim', id: '10.100.2.5' } as const;
  const victim = endpoint(membership(blue), 'aa', 5, '/run/netns/c1', { node: 'node2', ip: '10.100.2.5/24' });
  store.putLease(lease(blue, 2));
  store.putRecordOf(victim);
  store.putClaim({ network: 'blue', ip: ip('10.100.2.5'), node: 'node3', endpoint: 'bb', state: 'granted' });
  t.false(hasRoute(asked(), 'node3'));
  t.regex(problems.get(key)?.why ?? '', /^node node2, .* endpoint aa: the claim is not believed$/);
  void store.deleteEndpoint('blue', 'aa');
  t.true(hasRoute(asked(), 'node3'));
  t.is(problems.get(key), undefined);
});

test('what is gone before it has had its turn leaves no problem, and counts no more', (t) => {
  const { store, problems, peers, late } = routes();
  const victim = endpoint(membership(blue), 'aa', 5, '/run/netns/c1', { node: 'node2', ip: '10.100.2.5/24' });
  store.putLease(lease(blue, 2));
  store.putRecordOf(victim);
  late(() => {
    store.putLease({ ...lease(blue, 3), subnet: IpNetwork.parse('10.99.0.0/24') });
    store.putLease(lease(blue, 4));
    store.putClaim({
      network: 'blue',
      ip: ip('10.100.2.5'),
      node: 'node3',
      endpoint: 'bb',
      state: 'granted',
    });
    void store.releaseLease({ ...lease(blue, 3), subnet: IpNetwork.parse('10.99.0.0/24') });
    void store.releaseLease(lease(blue, 4));
    void store.deleteClaim('blue', '10.100.2.5', 'bb');
  });
  t.deepEqual(problems.list(), []);
  t.deepEqual(peers.standing('blue'), []);
});

test('a lease that etcd has lost counts until it is back, also while that waits for its turn', (t) => {
  const { store, peers, asked, hasRoute, node2, late } = routes();
  const standing = (): string[] => peers.standing('blue').map(({ subnet }) => subnet.toString());
  node2('192.0.2.2');
  store.putLease(lease(blue, 2));
  t.true(hasRoute(asked(), '192.0.2.2'));
  late(() => {
    void store.releaseLease(lease(blue, 2));
    t.deepEqual(standing(), ['10.100.2.0/24']);
    store.putLease(lease(blue, 2));
    t.deepEqual(standing(), ['10.100.2.0/24']);
  });
  t.deepEqual(standing(), ['10.100.2.0/24']);

  void store.releaseLease(lease(blue, 2));
  t.is(asked().size, 0);
  t.deepEqual(standing(), ['10.100.2.0/24']);
  peers.removed(node2Removed);
  t.deepEqual(standing(), []);

  late(() => {
    store.putLease(lease(blue, 2));
    void store.releaseLease(lease(blue, 2));
    peers.removed(node2Removed);
  });
  t.deepEqual(standing(), []);
});

// Routes of the host that overlap its networks: joins, problems and warnings, and the firewall.

const route = (to: string, more: Partial<HostRoute> = {}): HostRoute => ({
  ...{ to: IpNetwork.parse(to), link: 'eth1', isLan: true, isOwn: false },
  ...more,
});

const red = overlay({ name: 'red', subnet: '10.101.0.0/22', vni: 4098 });

test('a new join is refused with the route, and an earlier member stays', async (t) => {
  const node = await startNode(t);
  node.store.putNetwork(red);
  node.kernel.hostRoutes = [route('10.101.2.0/24')];
  await t.throwsAsync(node.memberships.join('red'), {
    message: /10\.101\.0\.0\/22 overlaps a route of this host: 10\.101\.2\.0\/24 dev eth1/,
  });
  t.deepEqual([...(node.store.view.leases.get('red')?.keys() ?? [])], []);
  await node.memberships.join('red', { again: true });
  t.truthy(node.memberships.get('red'));
});

test('a network made with --force is joined in another subnet', async (t) => {
  const node = await startNode(t);
  const forced = { ...red, force: true };
  node.store.putNetwork(forced);
  node.kernel.hostRoutes = [route('10.101.1.0/24'), route('10.101.2.128/25', { isLan: false })];
  const { avoid } = await hostRoutesBeside(node, forced);
  t.deepEqual(avoid.map(String), ['10.101.1.0/24', '10.101.2.128/25']);
});

test('the prefix on another program’s bridge of a --subnet-only network is a node’s subnet', async (t) => {
  const node = await startNode(t);
  node.store.putNetwork(red);
  node.kernel.hostRoutes = [
    route('10.101.1.0/24', { link: 'docker0' }),
    route('10.101.2.0/24', { isLan: false, via: '192.0.2.7' }),
  ];
  const inside = async (subnetOnly: readonly string[]): Promise<string[]> =>
    (await hostRoutesBeside({ ...node, subnetOnly }, red)).inside.map(({ to }) => to.toString());
  t.deepEqual(await inside(['red']), ['10.101.2.0/24']);
  t.deepEqual(await inside(['blue']), ['10.101.1.0/24', '10.101.2.0/24']);
});

test('a membership has a problem or a warning as long as the route is there', async (t) => {
  const node = await startNode(t);
  node.store.putNetwork(red);
  await node.memberships.join('red');
  let changes = 0;
  const overlaps = new RouteOverlaps({
    ...{ kernel: node.kernel, store: node.store, problems: node.problems, log: silentLogger },
    memberships: () => node.memberships.list(),
    changed: () => Promise.resolve(void changes++),
  });
  node.kernel.hostRoutes = [route('10.101.2.0/25'), route('10.0.0.0/8', { isLan: false })];
  await overlaps.look.now();
  t.deepEqual(
    node.problems.list().map(({ what }) => what),
    ['network red (10.101.0.0/22)'],
  );
  t.regex(node.problems.list()[0]?.why ?? '', /10\.101\.2\.0\/25 dev eth1/);
  t.regex(node.problems.warnings()[0]?.why ?? '', /10\.0\.0\.0\/8 dev eth1 of this host contains it/);
  t.is(overlaps.over('red', IpAddress.parse('10.101.2.0'), 24)?.to.toString(), '10.101.2.0/25');
  t.is(overlaps.over('red', IpAddress.parse('10.101.3.0'), 24), undefined);
  t.true(overlaps.keepsOut(red));
  t.false(overlaps.keepsOut({ ...red, force: true }));
  t.is(changes, 1);
  node.store.putNetwork({ ...red, force: true });
  await node.memberships.handle([
    { kind: 'network', name: 'red', before: red, after: { ...red, force: true } },
  ]);
  await overlaps.look.now();
  t.deepEqual(node.problems.list(), []);
  t.is(node.problems.warnings().length, 2);
  node.kernel.hostRoutes = [];
  await overlaps.look.now();
  t.deepEqual(node.problems.warnings(), []);
});

test.serial('a host whose routes change all the time lists them once a second', async (t) => {
  const node = await startNode(t);
  let lists = 0;
  const kernel = { routes: () => Promise.resolve((lists++, [])) };
  mock.timers.enable({ apis: ['setTimeout'] });
  try {
    const overlaps = new RouteOverlaps({
      ...{ kernel, store: node.store, problems: node.problems, log: silentLogger },
      ...{ memberships: () => [], changed: () => Promise.resolve() },
    });
    for (let ms = 0; ms < 3000; ms += 50) {
      overlaps.look.soon();
      mock.timers.tick(50);
      await new Promise(setImmediate);
    }
    t.is(lists, 3);
    await overlaps.look.stop();
  } finally {
    mock.timers.reset();
  }
});

// What this node's agent says of a network whose config in etcd it does not serve.

test('attaching to it and giving it a name tell why it is not served', async (t) => {
  const { attacher, kernel, store } = await startNode(t);
  store.putBad({ key: '/weft/networks/old/config', why: 'Network is missing; expected text' });
  kernel.addContainer(path('c1'));
  const names = nameApi({ store, networks: () => [], dns: {} as Dns });
  const expected = {
    code: 'FAILED_PRECONDITION',
    message: 'network old: its config is not one that weft serves: Network is missing; expected text',
    next: 'Correct /weft/networks/old/config in etcd, or remove the network: weft network rm old.',
  };
  const attach = () => attacher.attach(request('c1', { network: 'old' }));
  t.like(await t.throwsAsync(attach), expected);
  const add = () => names.add({ name: 'db', ips: ['192.0.2.7'], network: 'old' });
  t.like(await t.throwsAsync(add), expected);
  t.like(await t.throwsAsync(async () => names.list({ network: 'old' })), expected);
  await t.throwsAsync(attacher.attach(request('c1', { network: 'none' })), { code: 'NOT_FOUND' });
});
