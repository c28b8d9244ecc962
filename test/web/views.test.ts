// What the views compute: search, paths, addresses.
import test from 'ava';

import { Endpoint, Network, Node } from '../../proto/gen/weft/v1/types.js';
import { stripsOf } from '../../web/state/addresses.js';
import { matrixOf, networksByBroken, stateOf } from '../../web/state/paths.js';
import { rangeOf } from '../../web/state/prefix.js';
import { search } from '../../web/state/search.js';
import { Cluster } from '../../web/state/store.js';

function clusterOf({
  nodes = [],
  networks = [],
  endpoints = [],
}: {
  nodes?: Node[];
  networks?: Network[];
  endpoints?: Endpoint[];
}): Cluster {
  const cluster = new Cluster();
  cluster.apply({ kind: 'node', put: nodes, gone: [] }, 0);
  cluster.apply({ kind: 'network', put: networks, gone: [] }, 0);
  cluster.apply({ kind: 'endpoint', put: endpoints, gone: [] }, 0);
  return cluster;
}

const node = (name: string, state = 'up', broken: { node: string; hears?: boolean }[] = []) =>
  Node.fromPartial({
    ...{ name, state, networks: ['blue'] },
    problems: broken.map((path) => ({
      what: `path to ${path.node}`,
      broken: [{ ...path, network: 'blue', family: 4 }],
    })),
  });

test('a path is broken in the direction that is known, else in both', (t) => {
  const cluster = clusterOf({
    nodes: [
      node('c', 'down'),
      node('a', 'up', [{ node: 'b', hears: true }, { node: 'd' }]),
      node('b'),
      node('d'),
    ],
  });
  const matrix = matrixOf(cluster, 'blue');
  const rows = matrix.names.map((_, from) =>
    matrix.names.map((_, to) => stateOf(matrix, from, to)).join(' '),
  );
  t.deepEqual(rows, [
    'none broken down broken',
    'ok none down ok',
    'down down none down',
    'broken ok down none',
  ]);
  t.is(matrix.broken, 3);
  t.is(matrix.problems.get(1)?.what, 'path to b');
  t.deepEqual(networksByBroken(cluster), [{ network: 'blue', broken: 3 }]);
});

test('what one end hears says which direction is broken, when both ends report it', (t) => {
  const ofBoth = (a: boolean, b: boolean) => {
    const nodes = [node('a', 'up', [{ node: 'b', hears: a }]), node('b', 'up', [{ node: 'a', hears: b }])];
    const matrix = matrixOf(clusterOf({ nodes }), 'blue');
    return [stateOf(matrix, 0, 1), stateOf(matrix, 1, 0)];
  };
  t.deepEqual(ofBoth(true, false), ['broken', 'ok']);
  t.deepEqual(ofBoth(false, true), ['ok', 'broken']);
  t.deepEqual(ofBoth(false, false), ['broken', 'broken']);
  // Small packets pass both ways: its MTU, for example.
  t.deepEqual(ofBoth(true, true), ['broken', 'broken']);
});

test('search finds names, addresses and containers, the whole word first', (t) => {
  const endpoint = (id: string, name: string, ip: string) =>
    Endpoint.fromPartial({
      id,
      name,
      ip,
      network: 'blue',
      node: 'h1',
      mac: '02:00:00:00:00:01',
      target: `docker:${name}`,
    });
  const cluster = clusterOf({
    nodes: [node('web')],
    endpoints: [endpoint('1', 'my-web', '10.0.0.21/24'), endpoint('2', 'web2', '10.0.0.2/24')],
  });
  t.deepEqual(
    search(cluster, ' WEB ').map(({ title }) => title),
    ['web', 'web2.blue', 'my-web.blue'],
  );
  t.deepEqual(
    search(cluster, '10.0.0.2').map(({ key }) => key),
    ['2', '1'],
  );
  t.is(search(cluster, 'docker:web2').length, 1);
  t.is(search(cluster, '02:00:00').length, 2);
  t.is(search(cluster, '').length, 0);
  t.is(search(cluster, 'web', 1).length, 1);
});

test('a strip has its subnets, their use, claims, and overlaps', (t) => {
  const lease = (name: string, subnet: string) => ({ node: name, subnet });
  const blue = Network.fromPartial({
    ...{ name: 'blue', subnet: '10.0.0.0/16' },
    leases: [lease('h2', '10.0.128.0/24'), lease('h1', '10.0.0.0/24')],
  });
  const red = Network.fromPartial({ name: 'red', subnet: '10.0.64.0/18' });
  const at = (id: string, host: string, ip: string) =>
    Endpoint.fromPartial({ id, node: host, ip, network: 'blue' });
  const endpoints = [
    at('1', 'h1', '10.0.0.2/24'),
    at('2', 'h1', '10.0.128.9/32'),
    at('3', 'h1', '10.0.64.1/32'),
  ];
  const [first] = stripsOf(clusterOf({ networks: [blue, red], endpoints }));
  t.like(first, { network: 'blue', overlaps: ['red'], isNearEnd: false });
  t.deepEqual(
    first?.pieces.map(({ from, node, used, room }) => [from, node, used, room]),
    [
      [0, 'h1', 1, 253],
      [0.5, 'h2', 1, 253],
    ],
  );
  t.deepEqual(
    first?.claims.map(({ ip, at }) => [ip, at]),
    [
      ['10.0.128.9', 0.500137],
      ['10.0.64.1', 0.250015],
    ],
  );
});

test('ranges of both families', (t) => {
  t.deepEqual(rangeOf('10.1.2.3/16'), { from: 0x0a01_0000n, size: 65_536n });
  t.deepEqual(rangeOf('fd00::5/64'), { from: 0xfd00n << 112n, size: 1n << 64n });
  t.deepEqual(rangeOf('::'), { from: 0n, size: 1n });
  for (const text of ['', '10.0.0', '10.0.0.0/33', 'fd00:1', '1::2::3/64', 'x::1'])
    t.is(rangeOf(text), undefined, text);
});
