// Broken paths as problems: causes first, alike ones folded, directions named.
import test from 'ava';

import { problemsOf, type Fault } from '../../../agent/underlay/path-problems.js';
import { pathsTo, type Path } from '../../../agent/underlay/path.js';
import { leaseOf, membershipOf, overlay } from '../../core/records.js';

const blue = overlay({ subnet6: 'fd42:100::/48' });
const red = overlay({ name: 'red', vni: 4098, port: 8473, subnet: '10.101.0.0/16' });

function fault(n: number, network = blue, fields: Partial<Fault> = {}, family = 4): Fault {
  const path = pathsTo(membershipOf(network), leaseOf(network, n)).find((it) => it.family === family);
  if (path?.node === undefined) throw new Error('no such path');
  return { path: path as Path & { node: string }, state: 'blocked', ...fields };
}

const told = (faults: Fault[], causes: Parameters<typeof problemsOf>[2] = []) => [
  ...problemsOf('n1', faults, causes).values(),
];

test('one path: peer, network, family and port, and the direction where it is known', (t) => {
  for (const [hears, why] of [
    [undefined, /direction unknown/],
    [true, /packets from node n1 to node n2 are lost/],
    [false, /nothing from node n2 arrives at node n1/],
  ] as const) {
    const [problem, ...rest] = told([fault(2, blue, { hears }, 6)]);
    t.deepEqual(rest, []);
    t.is(problem?.what, 'the path to node n2 (192.0.2.2) in network blue, IPv6');
    t.regex(problem?.why ?? '', why);
    t.regex(problem?.fix ?? '', /UDP port 8472 .* IPv6/);
    t.deepEqual(
      problem?.broken?.map(({ node, network, family, hears }) => [node, network, family, hears]),
      [['n2', 'blue', 6, hears]],
    );
  }
});

test('networks with ports of their own are problems of their own; a dead underlay is one', (t) => {
  t.is(told([fault(2), fault(2, red)]).length, 2);
  const dead = { state: 'underlay-unreachable' } as const;
  const [problem, ...rest] = told([fault(2, blue, dead), fault(2, blue, dead, 6), fault(2, red, dead)]);
  t.deepEqual(rest, []);
  t.is(problem?.what, 'the paths to node n2 (192.0.2.2) in networks blue, red, IPv4 and IPv6');
  t.is(problem?.consequences?.length, 3);
});

test('what is the same of many nodes is one problem', (t) => {
  const [problem, ...rest] = told([2, 3, 4, 5].map((n) => fault(n)));
  t.deepEqual(rest, []);
  t.is(problem?.what, 'the paths to 4 nodes in network blue, IPv4');
  t.is(problem?.consequences?.length, 4);
  t.is(told([2, 3].map((n) => fault(n))).length, 2);
});

test('an MTU: the size that passes, and both ways out', (t) => {
  const [problem] = told([fault(2, blue, { state: 'mtu', mtu: 1330 })]);
  t.regex(problem?.why ?? '', /up to 1330 bytes pass, and containers send up to 1430$/);
  t.regex(problem?.fix ?? '', /1480 bytes must pass on the underlay\), or .* --mtu 1330/);
  t.regex(told([fault(2, blue, { state: 'mtu' })])[0]?.why ?? '', /is looked for/);
});

test('a cause comes first, and what it explains is folded under it and no problem of its own', (t) => {
  const problem = { what: 'the link eth0', why: 'it has no carrier', fix: 'Check its cable.' };
  const causes = [{ key: 'link', problem, explains: ({ node }: Path) => node !== 'n9' }];
  const [cause, other, ...rest] = told([fault(2), fault(3), fault(9)], causes);
  t.deepEqual(rest, []);
  t.like(cause, { ...problem, isCause: true });
  t.deepEqual(cause?.consequences, [
    'node n2, network blue, IPv4: blocked',
    'node n3, network blue, IPv4: blocked',
  ]);
  t.regex(other?.what ?? '', /node n9/);
});

test('a problem keeps its key while its direction and size are found out', (t) => {
  const keys = (fields: Partial<Fault>): string[] => [
    ...problemsOf('n1', [fault(2, blue, fields)], []).keys(),
  ];
  t.deepEqual(keys({ hears: true }), keys({}));
  t.deepEqual(keys({ state: 'mtu', mtu: 1400 }), keys({ state: 'mtu' }));
});
