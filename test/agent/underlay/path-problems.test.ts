// What is told of broken paths.
import test from 'ava';

import type { NextHop } from '../../../agent/kernel/index.js';
import { NeighbourCauses } from '../../../agent/underlay/neighbour-causes.js';
import { PathEvents } from '../../../agent/underlay/path-events.js';
import { type Fault, problemsOf } from '../../../agent/underlay/path-problems.js';
import { isOpen, type OpenPath, type Path, type PathState, pathsTo } from '../../../agent/underlay/path.js';
import { IpAddress } from '../../../core/address.js';
import type { Problem } from '../../../core/problem.js';
import { leaseOf, membershipOf, overlay } from '../../core/records.js';

// Broken paths as problems: causes first, alike ones folded, directions named.

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

// A node's broken paths are one event, and so is that all of them are ok again.

const problem = (what: string, ...nodes: string[]): Problem => ({
  ...{ what, why: 'it is silent', fix: '' },
  broken: nodes.map((node) => ({ node, network: 'blue', family: 4 })),
});

function followed() {
  const events: string[] = [];
  const paths = new PathEvents((reason, node, message) => void events.push(`${reason} ${node}: ${message}`));
  return (problems: Problem[], states: Record<string, PathState[]>): string[] => {
    paths.follow(problems, () => new Map(Object.entries(states)));
    return events.splice(0);
  };
}

test('a path is told once, whichever problem tells of it, and heals when all of the node’s are ok', (t) => {
  const told = followed();
  t.deepEqual(told([problem('the path to h2', 'h2', 'h2')], { h2: ['ok', 'blocked', 'blocked'] }), [
    'path-broken h2: the path to h2: it is silent',
  ]);
  t.deepEqual(told([problem('an address of two hosts', 'h2')], { h2: ['ok', 'blocked', 'blocked'] }), []);
  t.deepEqual(told([], { h2: ['ok', 'ok', 'unknown'] }), []);
  t.deepEqual(told([], { h2: ['ok', 'ok', 'ok'] }), ['path-healed h2: all paths to node h2 are ok']);
  t.deepEqual(told([], { h2: ['ok', 'ok', 'ok'] }), []);
});

test('a broken path does not heal by its node going down, and is forgotten with its node', (t) => {
  const told = followed();
  told([problem('the paths to h2 and h3', 'h2', 'h3')], { h2: ['blocked'], h3: ['blocked'] });
  t.deepEqual(told([], { h2: ['node-down'], h3: ['node-down'] }), []);
  t.deepEqual(told([], { h2: ['ok'] }), ['path-healed h2: all paths to node h2 are ok']);
  t.deepEqual(told([], { h3: ['ok'] }), []);
});

// Causes on the link: two hosts with one address, a wrong permanent entry, and nothing where nothing is wrong.

const alone = overlay();
const paths = [2, 3].flatMap((n) => pathsTo(membershipOf(alone), leaseOf(alone, n)).filter(isOpen));
const [two, three] = paths as [OpenPath, OpenPath];
const A = '02:00:00:00:00:0a';
const B = '02:00:00:00:00:0b';

async function found(who: Record<string, string[]>, hop: Partial<NextHop> = {}): Promise<string[]> {
  const causes = new NeighbourCauses({
    kernel: {
      nextHop: (ip) => ({ ip, link: 'eth0', ...hop }),
      whoHas: (_link, ip) => Promise.resolve(who[ip] ?? []),
    },
    own: () => ({ link: 'eth0', ips: [IpAddress.parse('192.0.2.1')] }),
    log: { debug: () => undefined },
  });
  await causes.inspect(two);
  return causes.causes(paths, paths).map(({ problem, explains }) => {
    const explained = paths.filter(explains).map(({ node }) => node);
    return `${problem.what}: ${problem.why} (${explained.join()})`;
  });
}

test('two hosts answer for a peer’s address', async (t) => {
  t.deepEqual(await found({ '192.0.2.2': [A, B] }), [
    `the address 192.0.2.2, which two hosts have: hosts with the link addresses ${A} and ${B} answer for it on eth0: packets go to either of them (n2)`,
  ]);
});

test('another host answers for this node’s address', async (t) => {
  t.deepEqual(await found({ '192.0.2.1': [B], '192.0.2.2': [A] }), [
    `the address 192.0.2.1, which two hosts have: it is this node's, and another host answers for it, too, on eth0, with the link address ${B} (n2,n3)`,
  ]);
});

test('a permanent neighbour with another link address than the one that answers', async (t) => {
  const who = { '192.0.2.2': [A] };
  t.deepEqual(await found(who, { permanent: B }), [
    `the permanent neighbour 192.0.2.2 of eth0: it has the link address ${B}, and the host that has the address answers with ${A} (n2)`,
  ]);
  t.deepEqual(await found(who, { permanent: A }), []);
  t.deepEqual(await found({}, { permanent: B }), [], 'nobody says what would be right');
});

test('what was found stays while it is so, also where the path is ok by chance; the rest is forgotten', async (t) => {
  const asked: string[] = [];
  let answers = [A, B];
  const causes = new NeighbourCauses({
    kernel: {
      nextHop: (ip) => ({ ip, link: 'eth0' }),
      whoHas: (_link, ip) => {
        asked.push(ip);
        return Promise.resolve(ip === '192.0.2.2' ? answers : []);
      },
    },
    own: () => ({ link: 'eth0', ips: [IpAddress.parse('192.0.2.1')] }),
    log: { debug: () => undefined },
  });
  await causes.inspect(two, 0);
  await causes.inspect(two, 4000);
  t.deepEqual(asked.splice(0), ['192.0.2.2', '192.0.2.1'], 'at most every five seconds');
  t.is(causes.causes(paths, [two], 4000).length, 1);
  t.is(causes.causes(paths, [], 5000).length, 1);
  t.deepEqual(asked.splice(0), ['192.0.2.2']);
  answers = [A];
  await Promise.resolve();
  causes.causes(paths, [], 10_000);
  await new Promise((resolve) => setImmediate(resolve));
  t.deepEqual(causes.causes(paths, [], 10_000), []);
  causes.causes(paths, [], 20_000);
  t.deepEqual(asked, ['192.0.2.2'], 'once more, and then no more');
  t.deepEqual(causes.causes([three], [three], 30_000), []);
});
