// What the leading controller deletes of a cloud's routes, and what it must leave alone.
import test, { type ExecutionContext } from 'ava';

import { CloudRoutes } from '../../controller/cloud-routes.js';
import { IpAddress, IpNetwork } from '../../core/address.js';
import { networkOf } from '../../core/drivers/index.js';
import { permissionDenied } from '../../core/errors.js';
import type { OverlayNetwork } from '../../core/network.js';
import { silentLogger as log } from '../../daemon/log.js';
import { FakeCloud } from '../fakes/cloud.js';
import { FakeStore } from '../fakes/store.js';
import { until } from '../lab/wait.js';
import { lease, networkWith } from './records.js';

const SOON = { everyMs: 5 };
const net = (text: string): IpNetwork => IpNetwork.parse(text);
const sky = networkOf({
  name: 'sky',
  backend: 'aws-vpc',
  subnet: net('10.100.0.0/16'),
}) as OverlayNetwork<'aws-vpc'>;

/** n1 and n2 are in the network, with a route each. */
function setUp(t: ExecutionContext) {
  const store = new FakeStore();
  const cloud = new FakeCloud();
  const routes = new CloudRoutes({
    store,
    clouds: { get: () => Promise.resolve(cloud) },
    log,
    everyMs: 20,
    soonMs: 10,
  });
  store.putNetwork(sky);
  lease(store, 'sky', '10.100.1.0/24', 'n1', '192.0.2.1');
  lease(store, 'sky', '10.100.2.0/24', 'n2', '192.0.2.2');
  for (const n of [1, 2]) cloud.put('rtb-1', net(`10.100.${n}.0/24`), `eni-${n}`);
  const ending = new AbortController();
  t.teardown(() => ending.abort());
  /** Leads, until a few looks are over. */
  const looks = async (count = 4): Promise<void> => {
    let left = count;
    cloud.onLook = () => void left--;
    await until('looks are over', () => left <= 0, SOON);
  };
  return {
    store,
    cloud,
    routes,
    lead: () => void routes.lead(ending.signal),
    looks,
    end: () => ending.abort(),
  };
}

test('a route whose lease has ended is deleted, in the second look; the others stay', async (t) => {
  const { store, cloud, lead } = setUp(t);
  lead();
  await until('it has looked', () => cloud.steps.length === 0, SOON);
  const [, ended] = [...(store.view.leases.get('sky')?.values() ?? [])];
  if (ended === undefined) return t.fail();
  await store.releaseLease(ended);
  await until('it is gone', () => cloud.shown().length === 1, SOON);
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.1.0/24 eni-1']);
});

test('nothing is deleted that a lease, a claim or an unreadable record has, nor what is not the network’s', async (t) => {
  const { store, cloud, lead, looks } = setUp(t);
  store.putClaim({
    ...{ network: 'sky', ip: IpAddress.parse('10.100.1.77'), node: 'n2', endpoint: 'e', state: 'granted' },
  });
  cloud.put('rtb-1', net('10.100.1.77/32'), 'eni-2');
  cloud.put('rtb-1', net('10.100.64.0/20'), 'eni-9');
  cloud.put('rtb-1', net('10.100.9.0/24'), 'igw-1', false);
  store.putBad({ key: '/weft/networks/sky/subnets/10.100.7.0-24', why: 'not JSON' });
  cloud.put('rtb-1', net('10.100.7.0/24'), 'eni-7');
  const before = cloud.shown();
  lead();
  await looks();
  t.deepEqual(cloud.shown(), before);
});

test('a lease that is back by the next look keeps its route', async (t) => {
  const { store, cloud, routes } = setUp(t);
  const [, lost] = [...(store.view.leases.get('sky')?.values() ?? [])];
  if (lost === undefined) return t.fail();
  await store.releaseLease(lost);
  const ending = new AbortController();
  let looks = 0;
  cloud.onLook = () => {
    if (++looks === 2) lease(store, 'sky', '10.100.2.0/24', 'n2', '192.0.2.2');
  };
  const leading = routes.lead(ending.signal);
  await until('several looks', () => looks > 3, SOON);
  ending.abort();
  await leading;
  t.is(cloud.shown().length, 2);
});

test('a network that was removed, or has another backend, takes the routes of dead nodes along', async (t) => {
  const { store, cloud, lead } = setUp(t);
  const sea = networkOf({ name: 'sea', backend: 'aws-vpc', subnet: net('10.101.0.0/16') });
  store.putNetwork(sea);
  cloud.put('rtb-1', net('10.101.3.0/24'), 'eni-3');
  store.putNetwork(networkWith('sea', '10.101.0.0/16', 5000));
  await store.removeNetwork('sky', { force: true });
  // It leads only from here on.
  lead();
  await until('nothing is left', () => cloud.shown().length === 0, SOON);
  t.pass();
});

test('without etcd nothing is deleted, and a cloud that refuses is a warning while it leads', async (t) => {
  const { store, cloud, routes, lead, looks, end } = setUp(t);
  for (const one of [...(store.view.leases.get('sky')?.values() ?? [])]) await store.releaseLease(one);
  store.setConnected(false);
  lead();
  await new Promise((resolve) => setTimeout(resolve, 60));
  t.is(cloud.steps.length, 0);
  cloud.failure = permissionDenied('AWS refuses ec2:DescribeRouteTables', 'Allow ec2:DescribeRouteTables.');
  store.setConnected(true);
  await until('it is a warning', () => routes.warnings().length === 1, SOON);
  t.like(routes.warnings()[0], {
    what: 'routes of network sky to nodes that are gone',
    fix: 'Allow ec2:DescribeRouteTables.',
  });
  cloud.failure = undefined;
  await looks();
  await until('they are gone', () => cloud.shown().length === 0, SOON);
  t.deepEqual(routes.warnings(), []);
  end();
});
