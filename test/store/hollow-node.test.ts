// Hollow nodes, of which the bench of large clusters has many: the agent on the kernel in memory, and on a real etcd.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { HollowNode, routedBy, type HollowPlan } from '../bench/scale/hollow-node.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { until } from '../lab/wait.js';
import { startEtcd, type TestEtcd } from './etcd.js';

const CONFIG = { Network: '10.100.0.0/16', SubnetLen: 24, Backend: { Type: 'vxlan', VNI: 4100 } };

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
  await etcd.raw.put('/weft/networks/blue/config').value(JSON.stringify(CONFIG));
});
test.after.always(() => etcd.stop());

/** Starts a node of network blue. @param routed takes each subnet that its kernel is given a route to */
async function started(
  t: ExecutionContext,
  plan: Pick<HollowPlan, 'name' | 'ip' | 'folder'>,
  routed = new Set<string>(),
): Promise<HollowNode> {
  const node = await HollowNode.start(
    { ...plan, networks: ['blue'], etcd: [etcd.url], controllers: [] },
    { onSteps: (steps) => routedBy(steps).forEach((subnet) => routed.add(subnet)) },
  );
  t.teardown(() => node.stop());
  await until(`${plan.name} is up`, () => node.isUp, { context: () => node.trouble ?? '' });
  return node;
}

test('a hollow node joins, and its kernel gets a route to the subnet of another', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  const routed = new Set<string>();
  const one = await started(t, { name: 'n1', ip: '198.18.0.1', folder }, routed);
  const two = await started(t, { name: 'n2', ip: '198.18.0.2', folder });
  const subnet = two.agent.memberships.get('blue')?.lease.subnet.toString() ?? '';
  t.regex(subnet, /^10\.100\.\d+\.0\/24$/);
  t.not(one.agent.memberships.get('blue')?.lease.subnet.toString(), subnet);
  await until('a route to it', () => routed.has(subnet));
  const { name } = await two.attach('blue', 'c1');
  await until('the name on the other node', () => one.knows('blue', name));
  await two.detach('blue', 'c1');
  await until('it is forgotten', () => !one.knows('blue', name));
});

test('a hollow node that is started again has its subnet and its containers', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  const before = await started(t, { name: 'n3', ip: '198.18.0.3', folder });
  const lease = before.agent.memberships.get('blue')?.lease.subnet.toString();
  const { ip } = await before.attach('blue', 'c2');
  await before.stop();
  const after = await HollowNode.start(before.plan, { kernel: before.kernel });
  t.teardown(() => after.stop());
  await until('it is up', () => after.isUp, { context: () => after.trouble ?? '' });
  t.is(after.agent.memberships.get('blue')?.lease.subnet.toString(), lease);
  t.deepEqual(
    after.agent.endpoints.list().map((endpoint) => endpoint.ip),
    [ip],
  );
});
