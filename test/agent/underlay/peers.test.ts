// Paths to peers in one small world: what is wrong with each, and what status says of it.
import test from 'ava';

import type { Echo } from '../../../agent/kernel/index.js';
import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { tagOf } from '../../../agent/underlay/path-prober.js';
import { measurePeers, Peers } from '../../../agent/underlay/index.js';
import type { Membership } from '../../../core/compile.js';
import type { Problem } from '../../../core/problem.js';
import type { Change, Store } from '../../../store/store.js';
import { leaseOf, membershipOf, overlay } from '../../core/records.js';
import { until } from '../../lab/wait.js';

const blue = overlay({ subnet6: 'fd42:100::/48' });
const red = overlay({ name: 'red', vni: 4098, port: 8473, subnet: '10.101.0.0/16' });
const memberships: Membership[] = [blue, red].map((network) => membershipOf(network));

/** Nodes n2, n3, …, and what reaches them. The address is one of a tunnel or of the underlay. */
const PEERS: Record<number, { passes: (ip: string, size: number) => boolean; node?: undefined }> = {
  2: { passes: () => true },
  3: { passes: (ip) => !ip.startsWith('fd42') },
  4: { passes: (_ip, size) => size <= 1380 },
  5: { passes: () => false },
  // Down, and a flanneld.
  6: { passes: () => false },
  7: { passes: () => false, node: undefined },
};
const IS_DOWN = 'n6';

function world(lacks: (links: readonly string[]) => boolean = () => false) {
  const leases = Object.entries(PEERS).flatMap(([n, peer]) =>
    [blue, red].map((network) => {
      const { node, ...lease } = { ...leaseOf(network, Number(n)), etcdLease: '1' };
      return 'node' in peer ? lease : { ...lease, node: node ?? '' };
    }),
  );
  const of = (network: string) =>
    new Map(leases.filter((it) => it.network === network).map((it) => [it.subnet.toString(), it]));
  const alive = new Map([2, 3, 4, 5].map((n) => [`n${n}`, `i${n}`]));
  const packets: number[] = [];
  const ping = (echoes: readonly Echo[]): Promise<(number | undefined)[]> => {
    packets.push(echoes.length);
    return Promise.resolve(
      echoes.map(({ ip, size = 76 }) => {
        const n = /(?:\.|:)(\d)(?:\.0|::)?$/.exec(ip)?.[1] ?? '0';
        return PEERS[Number(n)]?.passes(ip, size) === true ? Number(n) / 10 : undefined;
      }),
    );
  };
  const problems = new Problems();
  const metrics = agentMetrics();
  const underlay: { current: Membership['underlay']; outage: Problem | undefined } = {
    current: memberships[0]?.underlay as Membership['underlay'],
    outage: undefined,
  };
  const view = { leases: new Map([blue, red].map(({ name }) => [name, of(name)])), alive };
  const state = { connected: true, revision: 1 };
  let tell: (changes: readonly Change[]) => void = () => undefined;
  const subscribe: Store['subscribe'] = (listener) => {
    tell = listener;
    return () => undefined;
  };
  const peers = new Peers({
    store: { view, state, subscribe } as never,
    kernel: {
      ping,
      // Node n3 sends as always; what it is sent does not arrive.
      heardTags: () => [tagOf('n3', 'blue', 6)],
      neighbourTables: () => [
        {
          family: 4,
          most: 1024,
          entries: 800,
          known: new Set(Object.keys(PEERS).map((n) => `192.0.2.${n}`)),
        },
      ],
      nextHop: () => undefined,
      whoHas: () => Promise.resolve([]),
      refreshNeighbours: () => undefined,
    } as never,
    memberships: {
      list: () => memberships,
      get: (name: string) => memberships.find(({ network }) => network.name === name),
    },
    reconciler: { lacks },
    overlaps: { over: () => undefined },
    log: { debug: () => undefined },
    ...{ underlay, problems, metrics, node: 'n1' },
    onPath: () => undefined,
  });
  measurePeers(metrics.registry, () => peers.list());
  const tellOf = (kind: 'node' | 'lease'): void => tell([{ kind } as Change]);
  return { peers, problems, metrics, underlay, packets, view, state, tellOf };
}

const states = (peers: Peers): string[] =>
  peers
    .list()
    .flatMap(({ publicIp, paths }) =>
      paths.map(
        ({ network, family, state, mtu }) => `${publicIp} ${network} ${family} ${state} ${mtu ?? '-'}`,
      ),
    );

test('each path has its state, and each fault is a problem once', async (t) => {
  const { peers, problems, metrics, underlay, packets } = world();
  peers.start();
  t.teardown(() => peers.stop());
  const last = [
    ...['blue 4 ok 1430', 'blue 6 ok 1430', 'red 4 ok 1450'].map((it) => `192.0.2.2 ${it}`),
    ...['blue 4 ok 1430', 'blue 6 blocked -', 'red 4 ok 1450'].map((it) => `192.0.2.3 ${it}`),
    ...['blue 4 mtu 1380', 'blue 6 mtu 1380', 'red 4 mtu 1380'].map((it) => `192.0.2.4 ${it}`),
    ...['blue 4', 'blue 6', 'red 4'].map((it) => `192.0.2.5 ${it} underlay-unreachable -`),
    ...['blue 4', 'blue 6', 'red 4'].map((it) => `192.0.2.6 ${it} node-down -`),
    ...['blue 4', 'blue 6', 'red 4'].map((it) => `192.0.2.7 ${it} unknown -`),
  ];
  await until(
    'all is found out',
    () => states(peers).join() === last.join() && problems.list().length === 3,
    {
      everyMs: 50,
      context: () => states(peers).join('\n'),
    },
  );
  t.deepEqual(
    problems
      .list()
      .map(({ what }) => what)
      .toSorted(),
    [
      'the path to node n3 (192.0.2.3) in network blue, IPv6',
      'the paths to node n4 (192.0.2.4) in networks blue, red, IPv4 and IPv6',
      'the paths to node n5 (192.0.2.5) in networks blue, red, IPv4 and IPv6',
    ],
  );
  await until('the direction is known', () =>
    problems.list().some(({ why }) => why.includes('from node n1 to node n3')),
  );
  t.is(peers.list().find(({ node }) => node === IS_DOWN)?.state, 'down');
  t.regex(problems.warnings()[0]?.fix ?? '', /sysctl net\.ipv4\.neigh\.default\.gc_thresh3=4096/);
  const text = await metrics.registry.metrics();
  t.regex(text, /^weft_peer_rtt_worst_seconds\{node="n4"\} 0\.0004$/m);
  t.regex(text, /^weft_peer_rtt_seconds_bucket\{le="0.00025"\} [1-9]/m);
  t.regex(text, /^weft_paths\{state="node-down"\} 3$/m);
  t.true(packets.every((count) => count <= 16));

  underlay.outage = { what: 'the link eth0', why: 'it has no carrier', fix: 'Check it.' };
  const [outage, ...others] = await until('the outage is told', () => {
    const list = problems.list();
    return list[0]?.what === 'the link eth0' && list;
  });
  t.deepEqual(others, []);
  t.is(outage?.consequences?.length, 7);
});

test('where this node has no tunnel of its own, that is the problem', async (t) => {
  const { peers, problems } = world((links) => links.includes('wfvx6-4097'));
  peers.start();
  t.teardown(() => peers.stop());
  await until('n5 is a problem', () => problems.list().length > 0);
  t.true(problems.list().every(({ what }) => what.includes('in network red,')));
});

test('the paths are found again when a lease has changed, and at no other write to etcd', (t) => {
  const { peers, view, state, tellOf } = world();
  const pathsTo = (address: string): number =>
    peers.list().find(({ publicIp }) => publicIp === address)?.paths.length ?? 0;
  t.is(pathsTo('192.0.2.2'), 3);
  const [key] =
    [...(view.leases.get('red') ?? [])].find(([, { publicIp }]) => publicIp.toString() === '192.0.2.2') ?? [];
  view.leases.get('red')?.delete(key ?? '');
  state.revision++;
  tellOf('node');
  t.is(pathsTo('192.0.2.2'), 3);
  tellOf('lease');
  t.is(pathsTo('192.0.2.2'), 2);
});
