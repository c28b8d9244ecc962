// A rule of this host that closes a tunnel's port has the paths under it that it blocks, and no others.
import test from 'ava';

import { foldClosedPaths } from '../../../agent/api/closed-paths.js';
import type { BrokenPath, Problem } from '../../../core/problem.js';

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
