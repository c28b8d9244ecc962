// What is in the way of a network on a node: one problem for each cause, and nothing of what follows from it.
import { createSocket } from 'node:dgram';

import test, { type ExecutionContext } from 'ava';

import { agentMetrics } from '../../../agent/health/metrics.js';
import { Problems } from '../../../agent/health/problems.js';
import { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { RecordMap } from '../../../agent/reconcile/record-key.js';
import { compileNetwork, compilePeer, type Membership } from '../../../core/compile.js';
import type { Step } from '../../../core/plan.js';
import { linkKey, type VxlanLink } from '../../../core/objects/index.js';
import { silentLogger } from '../../../daemon/log.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { lease, membership, network } from '../../kernel/samples.js';

const blue = membership(network('blue', 4097, 100, true));
const TUNNELS = ['wfvx4097', 'wfvx6-4097'];

async function running(t: ExecutionContext, kernel: FakeKernel) {
  const problems = new Problems();
  const reconciler = new Reconciler({
    ...{ kernel, problems, log: silentLogger, metrics: agentMetrics() },
    onSandboxGone: () => undefined,
    onUnderlay: () => undefined,
  });
  t.teardown(() => reconciler.stop());
  reconciler.allowPruning();
  await reconciler.start();
  const join = (of: Membership): Promise<unknown> =>
    reconciler.set(
      new RecordMap([
        [{ kind: 'network', network: of.network.name }, compileNetwork(of)],
        [{ kind: 'peer', network: of.network.name, id: 'p' }, compilePeer(of, lease(of.network, 2))],
      ]),
    );
  return { reconciler, problems, join };
}

const leftBehind = (name: string, local: string, more: Partial<VxlanLink> = {}): VxlanLink => ({
  ...{ kind: 'link', type: 'vxlan', name, alias: '', mac: '02:00:00:00:00:01', mtu: 1450 },
  ...{ vni: 4097, port: 8472, local, ...more },
});

test('a tunnel of another program with the same VNI is the problem, and its routes are none', async (t) => {
  const kernel = new FakeKernel();
  kernel.breakByHand.addLink('flannel.1', leftBehind('flannel.1', '192.0.2.1'));
  kernel.breakByHand.put({ kind: 'route', to: '10.100.2.0/24', link: 'flannel.1' });
  const { problems, reconciler, join } = await running(t, kernel);
  await join(blue);
  const [problem, ...more] = problems.list();
  t.deepEqual(more, []);
  t.is(problem?.what, 'vxlan wfvx4097');
  t.is(problem?.why, 'link flannel.1, which weft did not make, has VNI 4097 on UDP port 8472');
  t.regex(problem?.fix ?? '', /ip link delete flannel\.1\b/);
  t.deepEqual(reconciler.obstacles(TUNNELS), [problem]);
  t.deepEqual([reconciler.lacks(TUNNELS), reconciler.lacks(['wfvx6-4097'])], [true, false]);
  t.true(kernel.has('route fd42:100:0:2::/64 via fd42:100:0:2:: dev wfvx6-4097 onlink'), 'IPv6 is there');
  kernel.breakByHand.delete(linkKey('flannel.1'));
  await reconciler.compare('interval');
  t.deepEqual(problems.list(), []);
  t.false(reconciler.lacks(TUNNELS));
  t.true(kernel.has('route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink'));
});

test('a tunnel of another VNI, port or family is in nobody’s way', async (t) => {
  const kernel = new FakeKernel();
  for (const [name, local, more] of [
    ['flannel.2', '192.0.2.1', { vni: 2 }],
    ['flannel.3', '192.0.2.1', { port: 4789 }],
  ] as const)
    kernel.breakByHand.addLink(name, leftBehind(name, local, more));
  const { problems, join } = await running(t, kernel);
  await join(blue);
  t.deepEqual(problems.list(), []);
});

const makes = (step: Step): boolean =>
  (step.do === 'create-link' || step.do === 'change-link') && step.link.type === 'vxlan';
const onTunnel = (step: Step): boolean =>
  step.do === 'put' && 'link' in step.object && TUNNELS.includes(step.object.link);

test('a UDP port that a process has is one problem, for all tunnels and what lies on them', async (t) => {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  t.teardown(() => socket.close());
  await new Promise((resolve) => socket.once('listening', resolve));
  const { port } = socket.address();
  const kernel = new FakeKernel();
  kernel.failSteps(makes, 99, 'EADDRINUSE');
  kernel.failSteps(onTunnel, 99, 'ENETDOWN');
  const { problems, reconciler, join } = await running(t, kernel);
  await join({ ...blue, network: { ...blue.network, port } as Membership['network'] });
  const [problem, ...more] = problems.list();
  t.deepEqual(more, []);
  t.is(problem?.what, `UDP port ${port}`);
  t.regex(problem?.why ?? '', new RegExp(`\\(pid ${process.pid}\\) has it, and wfvx4097, wfvx6-4097 cannot`));
  t.regex(problem?.fix ?? '', /^Stop it, or give the network another port/);
  t.true(TUNNELS.every((link) => reconciler.lacks([link])));
});

test('a UDP port that another program’s tunnel has', async (t) => {
  const kernel = new FakeKernel();
  kernel.breakByHand.addLink('cilium_vxlan', leftBehind('cilium_vxlan', '', { vni: 0, port: 18472 }));
  kernel.failSteps(makes, 99, 'EADDRINUSE');
  const { problems, join } = await running(t, kernel);
  await join({ ...blue, network: { ...blue.network, port: 18472 } as Membership['network'] });
  t.is(problems.list().length, 1);
  t.regex(problems.list()[0]?.why ?? '', /link cilium_vxlan, which weft did not make, has it/);
  t.regex(problems.list()[0]?.fix ?? '', /ip link delete cilium_vxlan/);
});

test('settings that cannot be set are one problem, with the command for all of them', async (t) => {
  const kernel = new FakeKernel();
  kernel.failSteps((step) => step.do === 'put' && step.object.kind === 'sysctl', 99, 'EROFS');
  const { problems, reconciler, join } = await running(t, kernel);
  await join(blue);
  const [problem, ...more] = problems.list();
  // The fake kernel refuses IPv6 addresses where IPv6 is off, and that follows from a setting.
  t.deepEqual(more, []);
  t.regex(problem?.what ?? '', /^\d+ kernel settings$/);
  t.regex(problem?.why ?? '', /cannot set them: EROFS$/);
  t.regex(problem?.fix ?? '', /^Set them yourself: sysctl -w \S.*net\.ipv4\.ip_forward=1 .*privileged/);
  t.deepEqual(reconciler.obstacles(['wfbr4097']), [problem]);
  t.false(reconciler.lacks(TUNNELS));
});
