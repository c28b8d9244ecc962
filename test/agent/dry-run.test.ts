// A dry run against a kernel and a store in memory: it says what a start would do, and leaves everything as it is.
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { dryRun, formatDryRun, type PlannedSteps } from '../../agent/dry-run/index.js';
import { addressKey, type BridgeLink, linkKey, routeKey } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import { overlay } from '../core/records.js';
import { FakeKernel } from '../fakes/kernel.js';
import { FakeStore } from '../fakes/store.js';
import { ip } from '../kernel/samples.js';
import { until } from '../lab/wait.js';
import { attached, path, startNode, type Left, type TestNode } from './node.js';

const lineOf = ({ target, verb, what }: PlannedSteps['steps'][number]): string =>
  `${target}: ${verb} ${what}`;

const filesIn = (folder: string): string[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .toSorted()
    .map((name) => {
      const file = join(folder, name);
      return statSync(file).isDirectory() ? name : `${name} ${readFileSync(file, 'utf8')}`;
    });

const everything = ({ kernel, store, stateDir }: Left, containers: readonly string[]): unknown => ({
  node: kernel.dump(),
  containers: containers.map((one) => kernel.dump(path(one))),
  handles: containers.map((one) => kernel.openHandles(path(one))),
  ports: [...kernel.boundPorts],
  rules: [kernel.firewall.rules, kernel.firewall.writes],
  etcd: store.view,
  revision: store.state.revision,
  files: filesIn(stateDir),
});

/** Runs dry, and fails where anything is not as it was. */
async function run(
  t: ExecutionContext,
  left: Left,
  { join: networks = [], containers = [] }: { join?: string[]; containers?: string[] } = {},
): Promise<PlannedSteps> {
  const before = structuredClone(JSON.stringify(everything(left, containers), replacer));
  const { kernel, store, stateDir } = left;
  const found = await dryRun({
    ...{ kernel, store, stateDir, node: 'n1', join: networks },
    underlay: { ip: ip('192.0.2.1'), mtu: 1500, link: 'eth0', onLink: [] },
    signal: new AbortController().signal,
    storeMs: 50,
  });
  // What is on its way to the store, or due in a moment, would have come by now.
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.is(JSON.stringify(everything(left, containers), replacer), before);
  return found;
}

function replacer(_key: string, value: unknown): unknown {
  if (typeof value === 'bigint') return value.toString();
  return value instanceof Map ? [...(value as Map<unknown, unknown>)] : value;
}

/** Of a network that is gone. */
const LEFT: BridgeLink = {
  ...{ kind: 'link', type: 'bridge', name: 'wfleft', alias: '', mac: '02:00:00:00:00:01', mtu: 1450 },
};

/** What a start on the same ground really does. */
async function reallyDone(t: ExecutionContext, left: Left): Promise<string[]> {
  const { kernel } = left;
  const before = kernel.applied.length;
  const node = await startNode(t, left);
  await node.synced();
  await node.stop();
  const keyed = ({ path: at, step }: { path: string; step: Step }): string => `${at} ${JSON.stringify(step)}`;
  return kernel.applied.slice(before).map(keyed);
}

async function stopped(t: ExecutionContext): Promise<TestNode> {
  const node = await startNode(t);
  await attached(node, 'c1');
  await node.synced();
  await until('etcd has the endpoint', () => node.store.view.endpoints.get('blue')?.size === 1);
  return node;
}

test('nothing to do beside an agent that has done everything', async (t) => {
  const node = await stopped(t);
  const found = await run(t, node, { containers: ['c1'] });
  t.deepEqual(found, { steps: [], notes: [], isComplete: true });
  t.is(formatDryRun(found, 'text'), 'nothing to do\n');
  t.is(formatDryRun(found, 'json'), '{\n  "steps": []\n}\n');
});

test('damage is listed in the words of ip, by target, and it is what a start repairs', async (t) => {
  const node = await stopped(t);
  await node.stop();
  const { kernel } = node;
  kernel.breakByHand.delete(addressKey('wfbr4097', '10.100.1.1/24'));
  kernel.handsIn(path('c1')).delete(routeKey('0.0.0.0/0'));
  kernel.firewall.rules = undefined;
  kernel.breakByHand.addLink('wfleft', LEFT, true);
  const found = await run(t, node, { containers: ['c1'] });
  const lines = found.steps.map(lineOf);
  t.true(lines.includes('node: create address 10.100.1.1/24 dev wfbr4097'), lines.join('\n'));
  t.true(lines.includes('node: delete link wfleft'));
  t.true(lines.some((line) => line.startsWith('netns:/run/netns/c1: create route 0.0.0.0/0 via ')));
  t.true(lines.includes('firewall: create the table of weft'));
  t.true(found.isComplete);
  const text = formatDryRun(found, 'text');
  t.regex(text, /^node\n {2}create {3}address /);
  t.regex(text, /\nnetns:\/run\/netns\/c1\n {2}create {3}route 0\.0\.0\.0\/0 via /);
  t.true(text.endsWith(`\n${lines.length} steps\n`), text);
  t.deepEqual(JSON.parse(formatDryRun(found, 'json')), { steps: found.steps });
  const kernelSteps = lines.filter((line) => !line.startsWith('firewall')).length;
  t.is((await reallyDone(t, node)).length, kernelSteps);
  t.deepEqual((await run(t, node, { containers: ['c1'] })).steps, []);
});

test('a container’s end that was renamed: the pair goes, and is made anew with what is inside', async (t) => {
  const node = await stopped(t);
  await node.stop();
  const { kernel } = node;
  kernel.handsIn(path('c1')).delete(linkKey('eth0'));
  const { steps } = await run(t, node, { containers: ['c1'] });
  const lines = steps.map(lineOf);
  t.true(
    lines.some((line) => line.startsWith('node: create veth ')),
    lines.join('\n'),
  );
  t.true(lines.some((line) => line.startsWith('netns:/run/netns/c1: create address 10.')));
});

test('after a reboot everything is made anew; a container that is gone takes its endpoint along', async (t) => {
  const node = await stopped(t);
  await node.stop();
  const left = { ...node, kernel: new FakeKernel() };
  const { steps, notes } = await run(t, left);
  const lines = steps.map(lineOf);
  t.deepEqual(notes, []);
  t.true(
    lines.includes('node: delete endpoint c1 of network blue: its container netns:/run/netns/c1 is gone'),
  );
  t.true(lines.some((line) => line.startsWith('node: create bridge wfbr')));
  t.true(lines.some((line) => line.startsWith('node: create vxlan wfvx')));
  t.true(lines.some((line) => line.startsWith('node: change sysctl ')));
  t.false(lines.some((line) => line.includes('veth')));
});

test('without etcd the state directory alone counts, it is said, and nothing of weft’s is called left over', async (t) => {
  const node = await stopped(t);
  await node.stop();
  node.kernel.breakByHand.addLink('wfleft', LEFT, true);
  const away = new FakeStore({ synced: false });
  const { steps, notes, isComplete } = await run(t, { ...node, store: away });
  t.deepEqual(steps, []);
  t.true(isComplete);
  t.is(notes.length, 1);
  t.regex(notes[0] ?? '', /^etcd has not answered within 0\.05 s: .* by the state directory alone/);
});

test('a subnet that would have to be taken is named and not taken', async (t) => {
  const node = await startNode(t);
  await node.synced();
  await node.memberships.resume();
  await node.stop();
  const { steps } = await run(t, node, { join: ['blue', 'nosuch'] });
  t.deepEqual(steps.map(lineOf), ['node: acquire a subnet of network blue']);
  t.is(formatDryRun({ steps }, 'text'), 'node\n  acquire  a subnet of network blue\n1 step\n');
});

test('a lease that etcd has lost is acquired again, and its network stays', async (t) => {
  const node = await stopped(t);
  await node.stop();
  const subnet = node.memberships.get('blue')?.lease.subnet.toString() ?? '';
  const store = new FakeStore();
  store.putNetwork(overlay());
  const { steps } = await run(t, { ...node, store }, { containers: ['c1'] });
  t.deepEqual(steps.map(lineOf), [`node: acquire subnet ${subnet} of network blue`]);
});

test('a container that cannot be looked into: the answer is not complete', async (t) => {
  const node = await stopped(t);
  await node.stop();
  const { kernel } = node;
  const open = kernel.openNamespace.bind(kernel);
  kernel.openNamespace = () => Promise.reject(new Error('EMFILE'));
  const { isComplete, notes } = await run(t, node, { containers: ['c1'] });
  kernel.openNamespace = open;
  t.false(isComplete);
  t.deepEqual(notes, ['the namespace /run/netns/c1 cannot be looked into: EMFILE']);
});
