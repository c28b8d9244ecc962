// What a controller reports of nodes.
import test from 'ava';

import { problemsOfNodes, type Reported } from '../../controller/node-problems.js';
import { enforcesNone, gapsOf } from '../../controller/policy-gaps.js';
import { PolicyWords } from '../../controller/policy-words.js';
import { digestOf, parsePolicy } from '../../core/policy/index.js';
import type { BrokenPath, Problem } from '../../core/problem.js';
import { Status, type StatusPolicies } from '../../proto/gen/weft/v1/types.js';
import { endpointOf, overlay } from '../core/records.js';
import { FakeStore } from '../fakes/store.js';

// Problems of the nodes, each of them once, with the cause before its consequences.

const up = (): boolean => true;
const to = (node: string, fields: Partial<BrokenPath> = {}): BrokenPath => ({
  ...{ node, network: 'blue', family: 4 },
  ...fields,
});
const report = (node: string, broken: BrokenPath[], fields: Partial<Problem> = {}): Reported => ({
  node,
  problem: { what: 'the path', why: `seen from ${node}`, fix: 'Check UDP 8472.', broken, ...fields },
});
const shown = (reports: Reported[], isUp: (node: string) => boolean = up): string[] =>
  problemsOfNodes(reports, isUp).map(({ what, why }) => `${what}: ${why}`);

test('a path that both ends report is one problem, in the words of the end that knows the direction', (t) => {
  t.deepEqual(
    shown([report('h1', [to('h2', { hears: false })]), report('h2', [to('h1', { hears: true })])]),
    ['between node h1 and node h2, in network blue, IPv4: seen from h2'],
  );
});

test('neither end hears the other', (t) => {
  const both = [report('h1', [to('h2', { hears: false })]), report('h2', [to('h1', { hears: false })])];
  t.regex(shown(both)[0] ?? '', /nor does anything the other way$/);
});

test('a node that nobody reaches is one problem with its paths under it', (t) => {
  const others = ['h1', 'h3', 'h4'].map((node) => report(node, [to('h2')]));
  const found = problemsOfNodes(
    [
      ...others,
      report(
        'h2',
        ['h1', 'h3', 'h4'].map((node) => to(node)),
      ),
    ],
    up,
  );
  t.deepEqual(
    found.map(({ what, why }) => [what, why]),
    [['between node h2 and 3 nodes, in network blue, IPv4', 'seen from h2']],
  );
  t.deepEqual(found[0]?.consequences, [
    'between node h1 and node h2, network blue, IPv4',
    'between node h2 and node h3, network blue, IPv4',
    'between node h2 and node h4, network blue, IPv4',
  ]);
});

test('a cause that one node has found stands for the paths that others report', (t) => {
  const cause = report('h2', [to('h1')], {
    ...{ what: 'the permanent neighbour', why: 'is wrong', isCause: true },
    consequences: ['node h1, network blue, IPv4: underlay-unreachable'],
  });
  const found = problemsOfNodes([report('h1', [to('h2')]), cause], up);
  t.deepEqual(
    found.map(({ what }) => what),
    ['node h2: the permanent neighbour'],
  );
  t.deepEqual(found[0]?.consequences, ['from node h2 to node h1, network blue, IPv4: underlay-unreachable']);
});

test('a cause that several nodes have found is one', (t) => {
  const cause = { what: 'address 192.0.2.12 on eth0', why: 'two hosts', isCause: true };
  const own = { ...cause, why: 'it is this node’s' };
  const seen = [
    report('h1', [to('h2')], cause),
    report('h2', [to('h1')], own),
    report('h3', [to('h2')], cause),
  ];
  t.deepEqual(shown(seen), ['nodes h1, h2, h3: address 192.0.2.12 on eth0: two hosts']);
});

test('a path to a node that is down is none, and other problems have their node before them', (t) => {
  const other = { node: 'h1', problem: { what: 'etcd', why: 'away', fix: '' } };
  t.deepEqual(
    shown([report('h1', [to('h2')]), other], (node) => node !== 'h2'),
    ['node h1: etcd: away'],
  );
});

// Which nodes do not enforce what they should, from what they report.

const WEB = parsePolicy({ name: 'web', from: ['role=web'], to: ['any'], ports: [] });

async function world(reported: Record<string, Partial<StatusPolicies> | undefined>) {
  const store = new FakeStore();
  store.putNetwork(overlay());
  for (const name of Object.keys(reported)) {
    store.putNode({ name, instance: name, publicIp: '192.0.2.1', version: '0.1.0', startedAt: '' });
  }
  await store.createPolicy(WEB);
  const reportOf = (name: string) => ({
    at: 0,
    status: Status.fromPartial({
      node: { version: '0.1.0' },
      networks: [{ name: 'blue' }],
      ...(reported[name] && { policies: reported[name] }),
    }),
  });
  return { store, reports: { reportOf } };
}

const now = { digest: digestOf([WEB]), isolated: [], gaps: [] };

test('a node that keeps the present policies has no gap', async (t) => {
  t.deepEqual(gapsOf(await world({ h1: now })), []);
});

test('who is behind, unable or too old is named', async (t) => {
  const sources = await world({
    behind: { ...now, digest: digestOf([]) },
    isolated: { ...now, isolated: ['blue'] },
    unable: {
      ...now,
      gaps: [{ what: 'policies', why: 'iptables', fix: '', consequences: [], broken: [], isCause: false }],
    },
    old: undefined,
  });
  const found = Object.fromEntries(gapsOf(sources).map(({ node: name, why }) => [name, why]));
  t.deepEqual(Object.keys(found).toSorted(), ['behind', 'isolated', 'old', 'unable']);
  t.regex(found['old'] ?? '', /0\.1\.0.*knows no policies/);
  t.regex(found['unable'] ?? '', /iptables/);
  t.true(enforcesNone(sources.store, sources.reports.reportOf('old').status));
  t.false(enforcesNone(sources.store, sources.reports.reportOf('behind').status));
  await sources.store.removePolicy('web');
  t.false(enforcesNone(sources.store, sources.reports.reportOf('old').status));
});

test('a word means one endpoint, an address or a node, or it is refused with what it means', (t) => {
  const store = new FakeStore();
  store.putNetwork(overlay());
  for (const [id, address] of [
    ['00000000000000aa', '10.100.5.2/24'],
    ['00000000000000bb', '10.100.5.3/24'],
  ] as const)
    store.putRecordOf(endpointOf(overlay(), address, { id, name: 'db' }));
  const words = new PolicyWords(store.view);
  t.deepEqual(words.find('198.51.100.1').ips.map(String), ['198.51.100.1']);
  t.deepEqual(words.find('00000000000000bb').ips.map(String), ['10.100.5.3']);
  t.deepEqual(words.find('02:77:0a:64:05:02').ips.map(String), ['10.100.5.2'], 'as weft inspect finds');
  t.deepEqual(words.find('pid:4711', ['00000000000000bb']).ips.map(String), ['10.100.5.3']);
  t.throws(() => words.find('db'), { message: /db means 2 endpoints: .*00000000000000bb/ });
  t.throws(() => words.find('nobody'), { message: /no endpoint, container or node/ });
});
