// Hollow nodes, of which the bench of large clusters has many: the agent on the kernel in memory, and on a real etcd.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { portApi } from '../../agent/api/port-handlers.js';
import { HollowNode, routedBy, type HollowPlan } from '../bench/scale/hollow-node.js';
import { temporaryFolder } from '../lab/temporary-folder.js';
import { until } from '../lab/wait.js';
import { startEtcd, type TestEtcd } from './etcd.js';
import { spec, storeOn } from './helpers.js';
import { startProxy } from './proxy.js';

const CONFIG = { Network: '10.100.0.0/16', SubnetLen: 24, Backend: { Type: 'vxlan', VNI: 4100 } };

let etcd: TestEtcd;
test.before(async () => {
  etcd = await startEtcd();
  await etcd.raw.put('/weft/networks/blue/config').value(JSON.stringify(CONFIG));
  const red = { ...CONFIG, Network: '10.101.0.0/16', Backend: { Type: 'vxlan', VNI: 4101 } };
  await etcd.raw.put('/weft/networks/red/config').value(JSON.stringify(red));
});
test.after.always(() => etcd.stop());

/** Starts a node, of network blue unless the plan has others. @param routed takes each subnet that its kernel is given a route to */
async function started(
  t: ExecutionContext,
  plan: Pick<HollowPlan, 'name' | 'ip' | 'folder'> & Partial<HollowPlan>,
  routed = new Set<string>(),
): Promise<HollowNode> {
  const node = await HollowNode.start(
    { networks: ['blue'], etcd: [etcd.url], ...plan, controllers: [] },
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

test('a node has the containers of its own networks, from the join to the end', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  const red = await started(t, { name: 'n4', ip: '198.18.0.4', folder, networks: ['red'] });
  const other = await started(t, { name: 'n5', ip: '198.18.0.5', folder });
  const { store } = other.agent;
  await until('it follows its own network alone', () => store.follows('blue') && !store.follows('red'));
  const { name } = await red.attach('red', 'c4');
  const lease = red.agent.memberships.get('red')?.lease.subnet.toString() ?? '';
  await until('the lease', () => store.view.leases.get('red')?.has(lease) === true);
  await other.attach('red', 'c5');
  await until('its name', () => other.knows('red', name));
  await other.detach('red', 'c5');
  await other.agent.memberships.leave('red');
  t.false(other.knows('red', name));
  t.false(store.follows('red'));

  // The next life follows its own network from the first list on.
  await other.stop();
  const next = await HollowNode.start(other.plan, { kernel: other.kernel });
  t.teardown(() => next.stop());
  await until('it is up', () => next.isUp, { context: () => next.trouble ?? '' });
  t.false(next.agent.store.follows('red'));
  t.true(next.agent.store.follows('blue'));
  t.false(next.knows('red', name));
});

test('a node whose state is lost finds its containers in every network', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  const before = await started(t, { name: 'n6', ip: '198.18.0.6', folder, networks: [] });
  const { id, ip } = await before.attach('red', 'c6');
  await until('it is published', () => before.store.view.endpoints.get('red')?.has(id) === true);
  await before.stop();
  rmSync(join(folder, 'n6', 'state'), { recursive: true });
  const after = await HollowNode.start(before.plan, { kernel: before.kernel });
  t.teardown(() => after.stop());
  await until(
    'the endpoint is recovered',
    () =>
      after.isUp &&
      after.agent.endpoints
        .list()
        .map((endpoint) => endpoint.ip)
        .join() === ip,
    { context: () => after.trouble ?? '' },
  );
  await until('it follows its own network alone', () => !after.agent.store.follows('blue'));
  t.true(after.agent.store.follows('red'));
});

test('a network that is removed is left, and one of its name joined, where its keys are watched in parts', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  // Its containers lie between the keys of the other networks and the tombstones.
  const green = { ...CONFIG, Network: '10.102.0.0/16', Backend: { Type: 'vxlan', VNI: 4102 } };
  await etcd.raw.put('/weft/networks/green/config').value(JSON.stringify(green));
  const filler = Array.from({ length: 1500 }, (_, at) => ({
    request_put: { key: Buffer.from(`/weft/networks/green/endpoints/e${at}`), value: Buffer.from('{}') },
  }));
  for (let at = 0; at < filler.length; at += 100)
    await etcd.raw.kv.txn({ success: filler.slice(at, at + 100) });
  const whole = await storeOn(etcd, '/weft');
  t.teardown(() => whole.close());
  const problems = new Set<string>();
  const nodes: HollowNode[] = [];
  for (const number of [7, 8]) {
    const one = await started(t, { name: `n${number}`, ip: `198.18.0.${number}`, folder, networks: [] });
    await until('it follows few', () => !one.agent.store.follows('green'));
    nodes.push(one);
  }
  const [first, second] = nodes;
  if (first === undefined || second === undefined) return t.fail();
  for (let round = 0; round < 3; round++) {
    await whole.createNetwork(spec('amber', `10.${110 + round}.0.0/16`));
    for (const one of nodes) {
      await until('the network is known', () => one.agent.store.view.networks.has('amber'));
      await one.attach('amber', `c${round}-${one.plan.name}`);
    }
    await until('the other one is known', () => second.knows('amber', `c${round}-n7`));
    await whole.removeNetwork('amber', { force: true });
    for (const one of nodes) {
      await until('it is left', () => one.agent.memberships.get('amber') === undefined);
      for (const { what } of one.agent.problems.list()) problems.add(what);
      await until('its records are gone', () => !one.agent.store.view.leases.has('amber'));
      t.false(one.knows('amber', `c${round}-n7`));
    }
  }
  t.deepEqual([...problems], []);
});

test('an ingress port is refused where another network has it on a node that is on both', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  const both = await started(t, { name: 'n9', ip: '198.18.0.9', folder, networks: ['blue', 'red'] });
  const one = await started(t, { name: 'n10', ip: '198.18.0.10', folder });
  await until('it follows its own network alone', () => !one.agent.store.follows('red'));
  const publish = [
    { hostIp: '0.0.0.0', hostPorts: { first: 8080, last: 8080 }, port: 80, protocol: 'tcp' as const },
  ];
  const open = async (node: HollowNode, network: string, name: string, everywhere: boolean) => {
    node.kernel.addContainer(`/run/netns/${name}`);
    return await node.agent.attacher.attach({
      ...{ network, target: `netns:/run/netns/${name}`, aliases: [], defaultRoute: true, dns: false },
      ...{ publish, everywhere },
    });
  };
  const { id, name } = await open(both, 'red', 'p1', false);
  const key = `/weft/networks/red/endpoints/${id}`;
  await until('it is published', async () => (await etcd.raw.get(key).string()) !== null);
  const { leases } = one.agent.store.view;
  await until('its leases are known', () =>
    ['blue', 'red'].every((network) =>
      [...(leases.get(network)?.values() ?? [])].some(({ node }) => node === 'n9'),
    ),
  );
  const error = await t.throwsAsync(open(one, 'blue', 'p2', true));
  t.regex(
    error?.message ?? '',
    new RegExp(`8080/tcp is taken by endpoint ${name} of network red on node n9`),
  );
  t.false(one.agent.store.follows('red'));
});

test('the port of a container in a network that the node is not on is the affair of that container’s node', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  const red = await started(t, { name: 'n11', ip: '198.18.0.11', folder, networks: ['red'] });
  const one = await started(t, { name: 'n12', ip: '198.18.0.12', folder });
  await until('it follows its own network alone', () => !one.agent.store.follows('red'));
  const { id, name } = await red.attach('red', 'c11');
  await until('it is published', () => red.store.view.endpoints.get('red')?.has(id) === true);
  const api = portApi({ ...one.agent, changed: () => undefined });
  const publish = ['8081:80'];
  const asked = (endpoint: string, network: string) =>
    api.publishPorts({ endpoint, network, publish, everywhere: false }, AbortSignal.timeout(20_000));
  for (const word of [id, name])
    for (const network of ['', 'red'])
      await t.throwsAsync(asked(word, network), { message: `endpoint ${name} is on node n11` });
  await t.throwsAsync(asked(name, 'blue'), { message: /is not attached on this node to network blue/ });
  t.false(one.agent.store.follows('red'));
});

test('a node joins a network of its own host while etcd is away, and has its records when it is back', async (t) => {
  const folder = join(temporaryFolder(t, 'weft-hollow-'), 'nodes');
  mkdirSync(folder);
  const whole = await storeOn(etcd, '/weft');
  t.teardown(() => whole.close());
  await whole.createNetwork(spec('local', '10.120.0.0/24', { driver: 'bridge' }));
  const proxy = await startProxy(etcd.port);
  t.teardown(() => proxy.close());
  const node = await started(t, { name: 'n13', ip: '198.18.0.13', folder, etcd: [proxy.url] });
  const { store } = node.agent;
  await until(
    'the network is known, not followed',
    () => store.view.networks.has('local') && !store.follows('local'),
  );
  proxy.refuse(true);
  proxy.cut();
  await until('etcd is away', () => !store.state.connected);
  const { id, ip } = await node.attach('local', 'c13');
  t.regex(ip, /^10\.120\.0\.\d+\/24$/);
  t.false(store.follows('local'));
  proxy.refuse(false);
  await until(
    'etcd has the container',
    async () => (await etcd.raw.get(`/weft/networks/local/endpoints/${id}`)) !== null,
  );
  await until('so has the node', () => store.view.endpoints.get('local')?.has(id) === true);
});
