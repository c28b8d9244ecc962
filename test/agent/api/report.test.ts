// What an agent reports.
import test from 'ava';

import { foldClosedPaths } from '../../../agent/api/closed-paths.js';
import { reportOf } from '../../../agent/api/report.js';
import type { BrokenPath, Problem } from '../../../core/problem.js';
import { MOST_OF_REPORT } from '../../../daemon/grpc.js';
import { Status } from '../../../proto/gen/weft/v1/types.js';

// A report holds what a controller shows, nothing that grows with the cluster, and is never larger than a controller takes.

const many = <T>(count: number, make: (i: number) => T): T[] =>
  Array.from({ length: count }, (_, i) => make(i));
const peers = (count: number) =>
  many(count, (i) => ({ node: `n${i}`, publicIp: '192.0.2.1', state: 'up', rttMs: 0.5 }));
const problems = (count: number, length: number) =>
  many(count, (i) => ({ what: `p${i}`, why: 'x'.repeat(length), fix: '' }));
const sizeOf = (status: Status): number => Status.encode(status).finish().length;

test('health, networks, problems and warnings are in it, and nothing of the peers', (t) => {
  const status = Status.fromPartial({
    health: 'degraded',
    networks: [{ name: 'blue', mtu: 1400, peers: 999, endpoints: 3 }],
    peers: peers(1000),
    problems: problems(3, 10),
    warnings: problems(1, 10),
  });
  const { health, networks, ...report } = reportOf(status);
  t.is(health, 'degraded');
  t.deepEqual([report.problems, report.warnings], [status.problems, status.warnings]);
  t.like(networks[0], { name: 'blue', mtu: 1400, peers: 0, endpoints: 0 });
  t.deepEqual(report.peers, []);
});

test('what changes by itself changes no report', (t) => {
  const at = (n: number): Status =>
    reportOf(
      Status.fromPartial({
        node: { name: 'n1', stepsApplied: n, driftRepaired: n },
        store: { revision: n },
        networks: [{ name: 'blue', mtu: 1450, expires: `2026-12-01T00:00:0${n}Z` }],
      }),
    );
  t.deepEqual(at(1), at(2));
});

test('of too many problems as many as fit, and how many do not', (t) => {
  for (const [count, length] of [
    [20_000, 40],
    [3, 200_000],
    [1, 12_000_000],
  ] as const) {
    const status = Status.fromPartial({
      networks: [{ name: 'blue', mtu: 1400 }],
      problems: problems(count, length),
    });
    const report = reportOf(status);
    t.true(sizeOf(report) <= MOST_OF_REPORT);
    t.deepEqual(report.networks, status.networks);
    const kept = report.problems.length - 1;
    t.like(report.problems.at(-1), { why: `has no room for ${count - kept} more problems` });
  }
});

test('the same of networks', (t) => {
  const networks = many(40_000, (i) => ({ name: `n${i}`, subnet: '10.100.0.0/24', gateway: '10.100.0.1' }));
  const report = reportOf(Status.fromPartial({ networks }));
  t.true(sizeOf(report) <= MOST_OF_REPORT);
  t.regex(report.problems[0]?.why ?? '', /^has no room for \d+ more networks$/);
});

// A rule of this host that closes a tunnel's port has the paths under it that it blocks, and no others.

const path = (what: string, ...broken: Partial<BrokenPath>[]): Problem => ({
  ...{ what, why: 'the tunnel does not answer', fix: '' },
  broken: broken.map((fields) => ({ ...{ node: 'h2', network: 'blue', family: 4 }, ...fields })),
});
const rule: Problem = {
  ...{ what: 'iptables, chain INPUT', why: 'its rule is before any that accepts', fix: 'Run: …' },
  closes: [{ family: 4, port: 8472 }],
};

test('paths that are blocked at the port are consequences of the rule, and count as explained by it', (t) => {
  const other = path('the path over IPv6', { family: 6, tunnelPorts: [8472] });
  const [cause, ...rest] = foldClosedPaths([
    path('two paths', { tunnelPorts: [8472] }, { node: 'h3', tunnelPorts: [8472] }),
    rule,
    other,
  ]);
  t.like(cause, {
    what: rule.what,
    isCause: true,
    consequences: ['node h2, network blue, IPv4: blocked', 'node h3, network blue, IPv4: blocked'],
  });
  t.is(cause?.broken?.length, 2);
  t.deepEqual(rest, [other]);
});

test('what another cause explains, another port, and a path that is not only blocked stay', (t) => {
  const problems = [
    { ...path('an address of two hosts', { tunnelPorts: [8472] }), isCause: true },
    path('another network', { tunnelPorts: [8473] }),
    path('the host is not reached at all', {}),
    rule,
  ];
  t.deepEqual(foldClosedPaths(problems), problems);
});
