// Routes of the host that overlap its networks: joins, problems and warnings, and the firewall.
import { mock } from 'node:test';

import test from 'ava';

import { hostRoutesBeside, RouteOverlaps } from '../../../agent/networks/route-overlaps.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import type { HostRoute } from '../../../core/host-routes.js';
import { silentLogger } from '../../../daemon/log.js';
import { overlay } from '../../core/records.js';
import { startNode } from '../node.js';

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
