// The firewall as a target: what a comparison is told of policies.
import test from 'ava';

import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { FirewallTarget } from '../../../agent/reconcile/firewall-target.js';
import { compareTarget } from '../../../agent/reconcile/target.js';
import type { PolicyChange, PolicyItem, PolicyRules } from '../../../core/policy/index.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';

const address = (target: number, ip = '10.100.5.2'): PolicyItem => ({ policy: 'address', ip, target });
const KEY = 'address 10.100.5.2';

function setUp() {
  const kernel = new FakeKernel();
  let waiting: PolicyChange[] = [];
  let rules: PolicyRules = { ranges: [] };
  const target = new FirewallTarget({
    ...{ kernel, log, problems: new Problems(), metrics: agentMetrics() },
    policies: {
      get hasNews() {
        return waiting.length > 0;
      },
      take() {
        const changes = waiting;
        waiting = [];
        return { rules, changes };
      },
    },
  });
  const { compared, changed } = kernel.firewall;
  const comes = (...changes: PolicyChange[]): void => void waiting.push(...changes);
  return {
    target,
    firewall: kernel.firewall,
    compared,
    changed,
    comes,
    rulesChange: () => (rules = { ranges: [] }),
  };
}

const NONE = { added: [], removed: [] };

test('a comparison writes what has come of policies by itself, where nothing else has changed', async (t) => {
  const { target, compared, comes } = setUp();
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
  const { target, changed, comes } = setUp();
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
  const { target, rulesChange } = setUp();
  await compareTarget(target);
  t.false(target.hasNews);
  rulesChange();
  await target.difference();
  t.true(target.hasNews);
  await target.change(NONE);
  t.false(target.hasNews);
});

test('what the driver could not write goes with the next change', async (t) => {
  const { target, firewall, changed, comes } = setUp();
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
  const { target, firewall, changed, comes } = setUp();
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
