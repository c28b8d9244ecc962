// The picture of the topology, the curves of traffic, and which policies concern an endpoint.
import test from 'ava';

import { Policy } from '../../proto/gen/weft/v1/controller.js';
import { Endpoint, Node } from '../../proto/gen/weft/v1/types.js';
import { curvesOf } from '../../web/state/curves.js';
import { policiesOf } from '../../web/state/policies.js';
import { pictureOf } from '../../web/state/topology.js';

test('nodes are on a grid, and an edge that both ends report is one', (t) => {
  const node = (name: string, ...broken: string[]) =>
    Node.fromPartial({
      ...{ name, state: 'up', networks: ['blue', 'red'] },
      problems: broken.map((path) => {
        const [peer = '', network = ''] = path.split('@');
        return { broken: [{ node: peer, network, family: 4 }] };
      }),
    });
  const nodes = new Map(
    [node('c'), node('a', 'b@blue', 'b@red', 'gone@blue'), node('b', 'a@blue')].map((it) => [it.name, it]),
  );
  const all = pictureOf({ nodes }, '', { columns: 2, width: 10, height: 5 });
  t.deepEqual(
    all.nodes.map(({ node: { name }, x, y }) => [name, x, y]),
    [
      ['a', 0, 0],
      ['b', 10, 0],
      ['c', 0, 5],
    ],
  );
  t.deepEqual([all.width, all.height, all.more], [20, 10, 0]);
  t.deepEqual(
    all.edges.map(({ from, to, networks }) => [from.node.name, to.node.name, networks]),
    [['a', 'b', ['blue', 'red']]],
  );
  t.deepEqual(pictureOf({ nodes }, 'red', { columns: 2, width: 10, height: 5 }).edges[0]?.networks, ['red']);
  t.is(pictureOf({ nodes }, 'green', { columns: 2, width: 10, height: 5 }).nodes.length, 0);
});

test('points are curves by network, the busiest first', (t) => {
  const point = (network: string, at: number, bytes: number) => ({
    network,
    at,
    bytes,
    drops: 1,
    missing: at,
  });
  const curves = curvesOf([point('blue', 1000, 1), point('red', 1000, 5), point('blue', 2000, 2)]);
  t.deepEqual(curves, [
    { network: 'red', times: [1], bytes: [5], drops: [1], missing: 1000 },
    { network: 'blue', times: [1, 2], bytes: [1, 2], drops: [1, 1], missing: 2000 },
  ]);
});

const endpoint = Endpoint.fromPartial({
  ...{ name: 'db', network: 'blue', node: 'h1', ip: '10.0.5.2/24', ip6: 'fd00::2/64' },
  ...{ aliases: ['store'], labels: { role: 'db' } },
});

const selectors = [
  ['role=db', true],
  ['role=db,network=blue', true],
  ['role=db,network=red', false],
  ['name=store', true],
  ['node=h2', false],
  ['cidr=10.0.0.0/16', true],
  ['cidr=10.1.0.0/16', false],
  ['cidr=fd00::/8', true],
  ['toString=', false],
  ['any', true],
  ['host', false],
] as const;

for (const [selector, isMeant] of selectors)
  test(`policies: ${selector}`, (t) => {
    const policy = Policy.fromPartial({ name: 'p', from: ['name=other'], to: ['name=other', selector] });
    t.deepEqual(policiesOf([policy], endpoint), { to: isMeant ? [policy] : [], from: [] });
  });
