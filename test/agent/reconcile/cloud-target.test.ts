// The routes of a cloud as a target: own routes alone, problems by network, and nothing on the node waits.
import test from 'ava';

import { agentMetrics, networkScope, Problems } from '../../../agent/health/index.js';
import { CloudTarget } from '../../../agent/reconcile/cloud-target.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import type { CloudMember } from '../../../core/cloud.js';
import { aborted, permissionDenied } from '../../../core/errors.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { FakeCloud } from '../../fakes/cloud.js';

const net = (text: string): IpNetwork => IpNetwork.parse(text);
const member = (name: string, second: number, ...routes: string[]): CloudMember => ({
  ...{ cloud: 'aws', name, tables: [], hostPrefix: 24, prefix: net(`10.${second}.0.0/16`) },
  ip: IpAddress.parse('192.0.2.11'),
  routes: routes.map(net),
});
const SKY = member('sky', 100, '10.100.5.0/24');

function setUp() {
  const cloud = new FakeCloud();
  const problems = new Problems();
  const metrics = agentMetrics();
  let again = 0;
  const settled: string[] = [];
  const target = new CloudTarget({
    ...{ problems, metrics, log },
    clouds: () => Promise.resolve(cloud),
    onChanged: () => void again++,
    onSettled: (name) => void settled.push(name),
  });
  target.prune = true;
  const compare = async (): Promise<void> => {
    const seen = await target.observe();
    if (seen === undefined) return;
    const { repaired } = await target.apply(target.plan(seen));
    target.drift.note(repaired);
  };
  const problemOf = (name: string) => problems.get({ scope: networkScope(name), kind: 'cloud-routes' });
  return { cloud, target, compare, problemOf, metrics, settled, again: () => again };
}

test('creates its route, and replaces one of a former holder', async (t) => {
  const { cloud, target, compare } = setUp();
  cloud.put('rtb-1', net('10.100.6.0/24'), 'eni-2');
  target.set([SKY]);
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.5.0/24 eni-1', 'rtb-1 10.100.6.0/24 eni-2']);
  target.set([{ ...SKY, routes: [net('10.100.6.0/24')] }]);
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.6.0/24 eni-1']);
});

test('what is as it should be is left alone; what was changed is repaired, and counted', async (t) => {
  const { cloud, target, compare, metrics } = setUp();
  target.set([SKY]);
  await compare();
  await compare();
  t.is(cloud.steps.length, 1);
  t.is(metrics.totals.repaired, 0);
  cloud.remove('rtb-1', net('10.100.5.0/24'));
  await compare();
  t.is(metrics.totals.repaired, 1);
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.5.0/24 eni-1']);
});

test('a network that the node has left takes its routes along, also when the cloud answers later', async (t) => {
  const { cloud, target, compare } = setUp();
  target.set([SKY]);
  await compare();
  t.true(target.set([]));
  cloud.failure = permissionDenied('AWS refuses');
  await compare();
  t.is(cloud.shown().length, 1);
  cloud.failure = undefined;
  await compare();
  t.deepEqual(cloud.shown(), []);
  t.false(target.set([]));
});

test('a network that is left while its tables are read gets no route; one whose tables were never read ends', async (t) => {
  const { cloud, target, compare, problemOf } = setUp();
  target.set([SKY]);
  const looking = target.observe();
  target.set([]);
  await target.apply(target.plan((await looking) ?? []));
  t.deepEqual(cloud.shown(), []);
  cloud.failure = permissionDenied('AWS refuses');
  target.set([SKY]);
  await compare();
  t.truthy(problemOf('sky'));
  t.false(target.set([]));
});

test('a network that is back while its routes are deleted does not count as led here before the next look', async (t) => {
  const { cloud, target, compare, settled } = setUp();
  target.set([SKY]);
  await compare();
  target.set([]);
  const plan = target.plan((await target.observe()) ?? []);
  target.set([SKY]);
  await target.apply(plan);
  t.deepEqual(cloud.shown(), []);
  t.false(target.isSettled(SKY));
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.5.0/24 eni-1']);
  t.deepEqual(settled, ['sky', 'sky']);
});

test('before the records are complete nothing is deleted', async (t) => {
  const { cloud, target, compare } = setUp();
  target.prune = false;
  cloud.put('rtb-1', net('10.100.9.0/24'), 'eni-1');
  target.set([SKY]);
  await compare();
  t.is(cloud.shown().length, 2);
  target.prune = true;
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.5.0/24 eni-1']);
});

test('a refusal is a problem of the network, and goes with the next success', async (t) => {
  const { cloud, target, compare, problemOf } = setUp();
  target.set([SKY]);
  cloud.failure = permissionDenied('AWS refuses ec2:CreateRoute', 'Allow ec2:CreateRoute.');
  await compare();
  t.deepEqual(problemOf('sky'), {
    what: 'the routes of network sky to this node',
    why: 'AWS refuses ec2:CreateRoute',
    fix: 'Allow ec2:CreateRoute.',
  });
  cloud.failure = undefined;
  await compare();
  t.is(problemOf('sky'), undefined);
});

test('a route that weft did not make is in the way, and the other network has its own', async (t) => {
  const { cloud, target, compare, problemOf } = setUp();
  cloud.put('rtb-1', net('10.100.5.0/24'), 'pcx-1', false);
  target.set([SKY, member('sea', 101, '10.101.5.0/24')]);
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.5.0/24 pcx-1', 'rtb-1 10.101.5.0/24 eni-1']);
  t.regex(problemOf('sky')?.why ?? '', /rtb-1 has a route to 10\.100\.5\.0\/24 that leads to pcx-1/);
  t.is(problemOf('sea'), undefined);
});

test('a table that has changed meanwhile is looked at once more, and is no problem', async (t) => {
  const { cloud, target, compare, problemOf, again } = setUp();
  target.set([SKY]);
  const seen = await target.observe();
  cloud.failure = aborted('changed meanwhile');
  await target.apply(target.plan(seen ?? []));
  t.is(again(), 1);
  t.is(problemOf('sky'), undefined);
  cloud.failure = undefined;
  await compare();
  t.is(cloud.shown().length, 1);
});

test('it tells once when what a network has leads here, and again after a change', async (t) => {
  const { cloud, target, compare, settled } = setUp();
  target.set([SKY]);
  cloud.failure = permissionDenied('AWS refuses');
  await compare();
  t.false(target.isSettled(SKY));
  cloud.failure = undefined;
  await compare();
  await compare();
  t.true(target.isSettled(SKY));
  t.deepEqual(settled, ['sky']);
  target.set([{ ...SKY, routes: [net('10.100.6.0/24')] }]);
  t.false(target.isSettled(SKY));
  await compare();
  t.deepEqual(settled, ['sky', 'sky']);
});
