// Which leases become routes: what any node may write into etcd is not all believed.
import test from 'ava';

import type { AddressClaims, Claimed } from '../../../agent/networks/address-claims.js';
import { PeerRoutes, type Records } from '../../../agent/networks/peer-routes.js';
import { networkScope } from '../../../agent/health/problem-key.js';
import { Problems } from '../../../agent/health/problems.js';
import type { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { IpNetwork } from '../../../core/address.js';
import { silentLogger } from '../../../daemon/log.js';
import type { Change } from '../../../store/store.js';
import type { Claim } from '../../../core/records.js';
import { FakeStore } from '../../fakes/store.js';
import { endpoint, ip, lease, membership, network } from '../../kernel/samples.js';

const blue = network('blue', 4097, 100, false);
const claimed = { membership: membership(blue), granted: new Map() } as unknown as Claimed;
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
  peers.nodeRemoved('node2');
  t.deepEqual(standing(), []);

  late(() => {
    store.putLease(lease(blue, 2));
    void store.releaseLease(lease(blue, 2));
    peers.nodeRemoved('node2');
  });
  t.deepEqual(standing(), []);
});
