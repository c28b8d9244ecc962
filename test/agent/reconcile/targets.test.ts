// Targets beside the kernel, and looks at them.
import { mock } from 'node:test';

import test from 'ava';

import { agentMetrics, networkScope, Problems } from '../../../agent/health/index.js';
import { CloudTarget } from '../../../agent/reconcile/cloud-target.js';
import { FirewallTarget } from '../../../agent/reconcile/firewall-target.js';
import { Look } from '../../../agent/reconcile/look.js';
import { compareTarget } from '../../../agent/reconcile/target.js';
import { IpAddress, IpNetwork } from '../../../core/address.js';
import type { CloudMember } from '../../../core/cloud.js';
import { aborted, permissionDenied } from '../../../core/errors.js';
import type { PolicyChange, PolicyItem } from '../../../core/policy/index.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { FakeCloud } from '../../fakes/cloud.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakePolicies } from '../../fakes/policies.js';

// Looks: one at a time, none missed, none after the stop.

const OPTIONS = { what: 'a test', everyMs: 10_000, settleMs: 1000, log };

/** Looks that last until the test ends them. */
function held() {
  const ends: (() => void)[] = [];
  const look = new Look(OPTIONS, () => new Promise((resolve) => ends.push(resolve)));
  return { look, ends };
}

test('what changes during a look is looked at by one more', async (t) => {
  const { look, ends } = held();
  const first = look.now();
  const later = [look.now(), look.now()];
  t.is(ends.length, 1);
  ends[0]?.();
  while (ends.length < 2) await Promise.resolve();
  ends[1]?.();
  await Promise.all([first, ...later]);
  t.is(ends.length, 2);
});

test('the stop waits for the look that runs, and none follows', async (t) => {
  const { look, ends } = held();
  void look.now();
  void look.now();
  let stopped = false;
  const stop = look.stop().then(() => (stopped = true));
  await new Promise(setImmediate);
  t.false(stopped);
  ends[0]?.();
  await stop;
  await look.now();
  t.is(ends.length, 1);
});

test.serial('it looks regularly, once for a burst, after a failure, and not after the stop', async (t) => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  try {
    let times = 0;
    const look = new Look(OPTIONS, () => Promise.reject(new Error(`failure ${++times}`)));
    const passes = async (ms: number): Promise<number> => {
      mock.timers.tick(ms);
      await new Promise(setImmediate);
      return times;
    };
    await look.start();
    t.is(times, 1);
    look.soon();
    t.is(await passes(999), 1);
    look.soon();
    t.is(await passes(1), 2);
    t.is(await passes(9000), 3);
    look.soon();
    await look.stop();
    look.soon();
    t.is(await passes(60_000), 3);
  } finally {
    mock.timers.reset();
  }
});

// The routes of a cloud as a target: own routes alone, problems by network, and nothing on the node waits.

const net = (text: string): IpNetwork => IpNetwork.parse(text);
const member = (name: string, second: number, ...routes: string[]): CloudMember => ({
  ...{ cloud: 'aws', name, tables: [], hostPrefix: 24, prefix: net(`10.${second}.0.0/16`) },
  ip: IpAddress.parse('192.0.2.11'),
  routes: routes.map(net),
});
const SKY = member('sky', 100, '10.100.5.0/24');

function cloudTarget() {
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
  const { cloud, target, compare } = cloudTarget();
  cloud.put('rtb-1', net('10.100.6.0/24'), 'eni-2');
  target.set([SKY]);
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.5.0/24 eni-1', 'rtb-1 10.100.6.0/24 eni-2']);
  target.set([{ ...SKY, routes: [net('10.100.6.0/24')] }]);
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.6.0/24 eni-1']);
});

test('what is as it should be is left alone; what was changed is repaired, and counted', async (t) => {
  const { cloud, target, compare, metrics } = cloudTarget();
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
  const { cloud, target, compare } = cloudTarget();
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
  const { cloud, target, compare, problemOf } = cloudTarget();
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
  const { cloud, target, compare, settled } = cloudTarget();
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
  const { cloud, target, compare } = cloudTarget();
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
  const { cloud, target, compare, problemOf } = cloudTarget();
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
  const { cloud, target, compare, problemOf } = cloudTarget();
  cloud.put('rtb-1', net('10.100.5.0/24'), 'pcx-1', false);
  target.set([SKY, member('sea', 101, '10.101.5.0/24')]);
  await compare();
  t.deepEqual(cloud.shown(), ['rtb-1 10.100.5.0/24 pcx-1', 'rtb-1 10.101.5.0/24 eni-1']);
  t.regex(problemOf('sky')?.why ?? '', /rtb-1 has a route to 10\.100\.5\.0\/24 that leads to pcx-1/);
  t.is(problemOf('sea'), undefined);
});

test('a table that has changed meanwhile is looked at once more, and is no problem', async (t) => {
  const { cloud, target, compare, problemOf, again } = cloudTarget();
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
  const { cloud, target, compare, settled } = cloudTarget();
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

// The firewall as a target: what a comparison is told of policies.

const address = (target: number, ip = '10.100.5.2'): PolicyItem => ({ policy: 'address', ip, target });
const KEY = 'address 10.100.5.2';

function firewallTarget() {
  const kernel = new FakeKernel();
  const policies = new FakePolicies();
  const target = new FirewallTarget({
    ...{ kernel, log, problems: new Problems(), metrics: agentMetrics(), policies },
  });
  const { compared, changed } = kernel.firewall;
  const comes = (...changes: PolicyChange[]): void => policies.comes(...changes);
  return {
    target,
    firewall: kernel.firewall,
    compared,
    changed,
    comes,
    rulesChange: () => (policies.rules = { ranges: [] }),
  };
}

const NONE = { added: [], removed: [] };

test('a comparison writes what has come of policies by itself, where nothing else has changed', async (t) => {
  const { target, compared, comes } = firewallTarget();
  await compareTarget(target);
  comes([KEY, address(1)]);
  await compareTarget(target);
  comes([KEY, address(2)]);
  await compareTarget(target);
  t.deepEqual(compared, [
    NONE,
    { added: [address(1)], removed: [] },
    { added: [address(2)], removed: [address(1)] },
  ]);
  // Beside a container's port that nobody has written, all is compared.
  target.noteContainers([{ link: 'wfep1' }], []);
  comes([KEY, undefined]);
  await compareTarget(target);
  t.is(compared.at(-1), undefined);
});

test('what was only looked at is written by the next change, with all that has come since', async (t) => {
  const { target, changed, comes } = firewallTarget();
  await compareTarget(target);
  comes([KEY, address(1)]);
  await target.difference();
  t.true(target.hasNews);
  comes([KEY, address(2)]);
  await target.change(NONE);
  t.deepEqual(changed, [{ added: [address(2)], removed: [] }]);
  t.false(target.hasNews);
});

test('rules that were only looked at are written by the next change, too', async (t) => {
  const { target, rulesChange } = firewallTarget();
  await compareTarget(target);
  t.false(target.hasNews);
  rulesChange();
  await target.difference();
  t.true(target.hasNews);
  await target.change(NONE);
  t.false(target.hasNews);
});

test('what the driver could not write goes with the next change', async (t) => {
  const { target, firewall, changed, comes } = firewallTarget();
  await compareTarget(target);
  comes([KEY, address(1)]);
  firewall.failNext(new Error('busy'));
  await t.throwsAsync(target.change(NONE), { message: 'busy' });
  t.true(target.hasNews);
  await target.change(NONE);
  t.deepEqual(changed.at(-1), { added: [address(1)], removed: [] });
  // Also where a comparison failed.
  comes([KEY, undefined]);
  firewall.failNext(new Error('busy'));
  await compareTarget(target);
  await target.change(NONE);
  t.deepEqual(changed.at(-1), { added: [], removed: [address(1)] });
});

test('what comes while the driver writes goes with the next change', async (t) => {
  const { target, firewall, changed, comes } = firewallTarget();
  await compareTarget(target);
  comes([KEY, address(1)]);
  firewall.beforeEnsure = async () => {
    firewall.beforeEnsure = undefined;
    comes([KEY, address(2)], ['address 10.100.5.3', address(3, '10.100.5.3')]);
    await target.difference();
  };
  await compareTarget(target);
  t.true(target.hasNews);
  await target.change(NONE);
  t.deepEqual(changed.at(-1), {
    added: [address(2), address(3, '10.100.5.3')],
    removed: [address(1)],
  });
  t.false(target.hasNews);
});
