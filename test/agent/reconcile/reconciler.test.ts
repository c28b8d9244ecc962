// The reconciler against a fake kernel.
//
// A record costs its own steps, damage is repaired, repeated damage is reported, and nothing is pruned before the records are
// complete.
import test, { type ExecutionContext } from 'ava';

import type { SandboxRecord } from '../../../agent/reconcile/container-target.js';
import { Desired } from '../../../agent/reconcile/desired.js';
import { endpointScope } from '../../../agent/health/problem-key.js';
import { Problems } from '../../../agent/health/problems.js';
import { Reconciler } from '../../../agent/reconcile/reconciler.js';
import { type RecordKey, RecordMap, type SandboxKey } from '../../../agent/reconcile/record-key.js';
import { agentMetrics } from '../../../agent/health/metrics.js';
import { IpNetwork } from '../../../core/address.js';
import {
  compileClaim,
  compileEndpoint,
  compileNetwork,
  compilePeer,
  type Membership,
} from '../../../core/compile.js';
import { permissionDenied } from '../../../core/errors.js';
import {
  linkKey,
  objectKey,
  routeKey,
  type KernelObject,
  type ObjectKey,
  type VxlanLink,
} from '../../../core/objects/index.js';
import { describeStep } from '../../../core/plan.js';
import { silentLogger } from '../../../daemon/log.js';
import { FakeKernel, NODE_PATH } from '../../fakes/kernel.js';
import { endpoint, ip, lease, membership, network } from '../../kernel/samples.js';
import { until } from '../../lab/wait.js';

const SOON = { everyMs: 10 };

const of = membership(network('blue', 4097, 100, false));
const peer = (n: number): RecordKey => ({ kind: 'peer', network: 'blue', id: `10.100.${n}.0-24` });
const endpointKey = (id: string): SandboxKey => ({ kind: 'endpoint', network: 'blue', id });
const ROUTE = routeKey('10.100.2.0/24');

async function running(options: { prune: boolean; onSandboxGone?: (record: SandboxKey) => void }): Promise<{
  kernel: FakeKernel;
  reconciler: Reconciler;
  problems: Problems;
  totals: { applied: number; failed: number; repaired: number };
}> {
  const kernel = new FakeKernel();
  const problems = new Problems();
  const metrics = agentMetrics();
  const reconciler = new Reconciler({
    kernel,
    log: silentLogger,
    metrics,
    problems,
    onSandboxGone: options.onSandboxGone ?? (() => undefined),
    onUnderlay: () => undefined,
  });
  await reconciler.set(
    new RecordMap([
      [{ kind: 'network', network: 'blue' }, compileNetwork(of)],
      [peer(2), compilePeer(of, lease(of.network, 2))],
    ]),
  );
  if (options.prune) reconciler.allowPruning();
  await reconciler.start();
  // The first rules of the fake firewall count as a repair.
  metrics.totals.repaired = 0;
  return { kernel, reconciler, problems, totals: metrics.totals };
}

const there = async (kernel: FakeKernel, key: ObjectKey): Promise<boolean> =>
  (await kernel.node.observe([])).objects.has(key);

test('a record costs its own objects and nothing else', async (t) => {
  const { kernel, reconciler, totals } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  const before = totals.applied;
  await reconciler.set(new RecordMap([[peer(3), compilePeer(of, lease(of.network, 3))]]));
  t.is(totals.applied - before, 3);
  await reconciler.set(new RecordMap([[peer(3), undefined]]));
  t.is(totals.applied - before, 6);
  t.true(await there(kernel, ROUTE));
  t.false(await there(kernel, routeKey('10.100.3.0/24')));
  await reconciler.compare('asked');
  t.is(totals.repaired, 0);
});

test('damage is repaired soon and counted', async (t) => {
  const { kernel, reconciler, totals } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  kernel.breakByHand.delete(ROUTE);
  t.false(await there(kernel, ROUTE));
  await until('a repair is counted', () => totals.repaired > 0, SOON);
  t.true(await there(kernel, ROUTE));
  t.is(totals.repaired, 1);
});

test('damage that recurs is reported and left to the regular comparison', async (t) => {
  const { kernel, reconciler, problems, totals } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  for (let i = 1; i <= 5; i++) {
    kernel.breakByHand.delete(ROUTE);
    await until(`repair ${i} is counted`, () => totals.repaired >= i, SOON);
  }
  t.true(problems.list().some(({ why }) => why.includes('5 times within a minute')));
  kernel.breakByHand.delete(ROUTE);
  await kernel.settled();
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.false(await there(kernel, ROUTE));
  await reconciler.compare('interval');
  t.true(await there(kernel, ROUTE));
});

const rulesBack = (kernel: FakeKernel): Promise<true> =>
  until('the rules are back', () => kernel.firewall.rules !== undefined, SOON);

test('rules that are flushed repeatedly are reported and left to the regular comparison', async (t) => {
  const { kernel, reconciler, problems } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  // The first rules of the fake firewall count, too.
  for (let i = 2; i <= 5; i++) {
    kernel.flushFirewall();
    await rulesBack(kernel);
  }
  t.true(problems.list().some(({ why }) => why.includes('5 times within a minute')));
  const { writes } = kernel.firewall;
  for (let i = 0; i < 6; i++) {
    kernel.flushFirewall();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.is(kernel.firewall.writes, writes);
  t.is(kernel.firewall.rules, undefined);
  await reconciler.compare('interval');
  t.not(kernel.firewall.rules, undefined);
});

test('one flush counts as one change, for any number of rules', async (t) => {
  const { kernel, reconciler, problems, totals } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  await reconciler.compare('asked');
  totals.repaired = 0;
  kernel.firewall.ensure = () =>
    Promise.resolve({ repaired: Array.from({ length: 7 }, (_, i) => `rule ${i}`), problems: [] });
  await reconciler.compare('asked');
  t.is(totals.repaired, 7);
  t.false(problems.list().some(({ why }) => why.includes('5 times within a minute')));
});

test('a change of another program’s rules costs a check of weft’s rules and no full comparison', async (t) => {
  const { kernel, reconciler } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  await kernel.settled();
  await new Promise((resolve) => setTimeout(resolve, 300));
  let looks = 0;
  let comparisons = 0;
  const ensure = kernel.firewall.ensure.bind(kernel.firewall);
  const observe = kernel.node.observe.bind(kernel.node);
  kernel.firewall.ensure = (desired) => (looks++, ensure(desired));
  kernel.node.observe = (sysctls) => (comparisons++, observe(sysctls));
  kernel.emit({ kind: 'firewall' });
  await until('the rules are looked at', () => looks > 0, SOON);
  await new Promise((resolve) => setTimeout(resolve, 300));
  t.is(looks, 1);
  t.is(comparisons, 0);
});

test('a step that the kernel refuses is a problem until it succeeds', async (t) => {
  const { kernel, reconciler, problems } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  kernel.failSteps((step) => step.do === 'put' && step.object.kind === 'route', 2);
  await reconciler.set(new RecordMap([[peer(4), compilePeer(of, lease(of.network, 4))]]));
  await until(
    'the step is a problem',
    () => problems.list().some(({ what }) => what.includes('10.100.4.0/24')),
    SOON,
  );
  t.true(problems.list().some(({ what }) => what.includes('10.100.4.0/24')));
  await reconciler.compare('asked');
  t.true(await there(kernel, routeKey('10.100.4.0/24')));
  await reconciler.compare('asked');
  t.deepEqual(problems.list(), []);
});

test('a link that another one keeps out is created as soon as that one goes', async (t) => {
  const { kernel, reconciler, problems } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  const red = membership(network('red', 1, 101, false));
  const taken: VxlanLink = {
    ...{ kind: 'link', type: 'vxlan', name: 'flannel.1', alias: '', mac: '02:00:00:00:00:07', mtu: 1450 },
    ...{ vni: 1, local: '192.0.2.1', port: 8472 },
  };
  kernel.breakByHand.addLink('flannel.1', taken);
  await reconciler.set(new RecordMap([[{ kind: 'network', network: 'red' }, compileNetwork(red)]]));
  t.true(problems.list().some(({ what }) => what.includes('wfvx1')));
  kernel.breakByHand.delete(linkKey('flannel.1'));
  await until('it is created', () => there(kernel, linkKey('wfvx1')), SOON);
  await until('it is no problem', () => problems.list().length === 0, SOON);
});

test('a step that the kernel keeps refusing is no repair and no drift', async (t) => {
  const { kernel, reconciler, problems, totals } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  kernel.failSteps((step) => step.do === 'put' && step.object.kind === 'route', 8, 'EACCES');
  kernel.breakByHand.delete(ROUTE);
  for (let i = 0; i < 7; i++) await reconciler.compare('asked');
  t.is(totals.repaired, 0);
  t.true(problems.list().some(({ what, why }) => what.includes('10.100.2.0/24') && why.includes('refused')));
  t.false(problems.list().some(({ why }) => why.includes('changed by something else')));
  await until('a repair is counted', () => totals.repaired > 0, SOON);
  await reconciler.compare('asked');
  await reconciler.compare('asked');
  t.is(totals.repaired, 1);
  t.deepEqual(problems.list(), []);
});

test('leftovers are deleted once the records are complete, not before', async (t) => {
  const { kernel, reconciler } = await running({ prune: false });
  t.teardown(() => reconciler.stop());
  const stale = compilePeer(of, lease(of.network, 9));
  for (const object of stale) {
    if (object.kind !== 'link') kernel.breakByHand.put(object, true);
  }
  await reconciler.compare('asked');
  t.true(await there(kernel, routeKey('10.100.9.0/24')));
  reconciler.allowPruning();
  await reconciler.compare('asked');
  t.false(await there(kernel, routeKey('10.100.9.0/24')));
});

test('an attach changes the container only after the node’s side exists, however slow that is', async (t) => {
  const { kernel, reconciler } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  kernel.addContainer('/run/netns/c1');
  const { namespace, sandbox } = await kernel.openNamespace('/run/netns/c1');
  t.teardown(() => namespace.close());
  const record = endpoint(of, '0000000000000001', 2, '/run/netns/c1', { sandbox });
  const { host, container } = compileEndpoint(of, record);
  // A step that takes longer than a turn lets other work run.
  kernel.beforeApply = (steps) =>
    steps.some((step) => step.do === 'create-link')
      ? new Promise((resolve) => setTimeout(resolve, 20))
      : undefined;
  const inside = { sandbox, hostIfname: record.hostIfname, objects: container };
  await t.notThrowsAsync(
    reconciler.attach(endpointKey('1'), host, inside, namespace, await namespace.observe([])),
  );
  t.true((await namespace.observe([])).objects.has(linkKey('eth0')));
});

test('a renamed tunnel is restored as soon as its remains are deleted', async (t) => {
  const { kernel, reconciler, problems } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  const tunnel = compileNetwork(of).find((object) => object.kind === 'link' && object.type === 'vxlan');
  if (tunnel?.kind !== 'link') return t.fail('the network has no tunnel');
  let comparisons = 0;
  const observe = kernel.node.observe.bind(kernel.node);
  kernel.node.observe = (sysctls) => {
    comparisons++;
    return observe(sysctls);
  };
  kernel.breakByHand.delete(linkKey('wfvx4097'));
  kernel.breakByHand.addLink('wfold', { ...tunnel, name: 'wfold' }, true);
  await until(
    'the tunnel is restored, and nothing is a problem',
    () => kernel.dump().includes('link wfvx4097') && problems.list().length === 0,
    SOON,
  );
  t.true(await there(kernel, ROUTE));
  t.false(await there(kernel, linkKey('wfold')));
  await new Promise((resolve) => setTimeout(resolve, 500));
  t.true(comparisons < 8, `${comparisons} comparisons`);
});

test('a container that cannot be opened now does not keep others from being repaired', async (t) => {
  const { kernel, reconciler, problems } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  const paths = [1, 2, 3].map((i) => `/run/netns/c${i}`);
  const links: ObjectKey[] = [];
  for (const [i, path] of paths.entries()) {
    kernel.addContainer(path);
    const { namespace, sandbox } = await kernel.openNamespace(path);
    const record = endpoint(of, `${i}`.repeat(16), i + 2, path, { sandbox });
    const { host, container } = compileEndpoint(of, record);
    const inside = { sandbox, hostIfname: record.hostIfname, objects: container };
    await reconciler.attach(endpointKey(`${i}`), host, inside, namespace, await namespace.observe([]));
    namespace.close();
    links.push(linkKey(record.hostIfname));
  }
  const open = kernel.openNamespace.bind(kernel);
  kernel.openNamespace = (path) =>
    path === paths[1] ? Promise.reject(new Error('EMFILE, too many open files')) : open(path);
  for (const link of links) kernel.breakByHand.delete(link);
  await reconciler.compare('asked');
  const { objects } = await kernel.node.observe([]);
  t.deepEqual(
    links.map((link) => objects.has(link)),
    [true, false, true],
  );
  t.deepEqual(
    paths.map((path) => kernel.openHandles(path)),
    [0, 0, 0],
  );
  t.true(problems.list().some(({ what, why }) => what.includes('/run/netns/c2') && why.includes('EMFILE')));
  kernel.openNamespace = open;
  await reconciler.compare('asked');
  t.true(await there(kernel, links[1] ?? t.fail()));
  t.deepEqual(problems.list(), []);
});

test('a container whose namespace may not be opened stays, as a problem', async (t) => {
  const gone: SandboxKey[] = [];
  const { kernel, reconciler, problems } = await running({
    prune: true,
    onSandboxGone: (record) => gone.push(record),
  });
  t.teardown(() => reconciler.stop());
  const path = '/run/netns/c1';
  kernel.addContainer(path);
  const { namespace, sandbox } = await kernel.openNamespace(path);
  const { host, container } = compileEndpoint(of, endpoint(of, '1'.repeat(16), 2, path, { sandbox }));
  const inside = { sandbox, hostIfname: 'wfv111111111111', objects: container };
  await reconciler.adopt(endpointKey('1'), host, inside);
  namespace.close();
  const denied = permissionDenied(`the network namespace ${path} may not be looked at`, 'Give the right.');
  kernel.openNamespace = () => Promise.reject(denied);
  kernel.identify = () => {
    throw denied;
  };
  await reconciler.compare('asked');
  kernel.emit({
    kind: 'changed',
    objects: new Map(),
    gone: new Set(),
    linksGone: new Set([inside.hostIfname]),
  });
  await kernel.settled();
  await reconciler.compare('asked');
  t.deepEqual(gone, []);
  t.deepEqual(
    problems.list().flatMap(({ what, why, fix }) => (what.includes(path) ? [`${why}: ${fix}`] : [])),
    [`it cannot be opened: ${denied.message}: Give the right. It is tried again every 10 seconds.`],
  );
});

/** A reconciler with a container attached, and what its record compiles to in another form of the network. */
async function attached(t: ExecutionContext) {
  const { kernel, reconciler, totals } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  const path = '/run/netns/c1';
  kernel.addContainer(path);
  const { namespace, sandbox } = await kernel.openNamespace(path);
  const record = endpoint(of, '1'.repeat(16), 2, path, { sandbox });
  const inside = (changed: Membership): { host: KernelObject[]; record: SandboxRecord } => {
    const { host, container: objects } = compileEndpoint(changed, record);
    return { host, record: { sandbox, hostIfname: record.hostIfname, objects } };
  };
  const now = inside(of);
  await reconciler.attach(endpointKey('1'), now.host, now.record, namespace, await namespace.observe([]));
  namespace.close();
  return {
    ...{ kernel, reconciler, totals, path },
    become: async (changed: Membership): Promise<string[]> => {
      const from = kernel.applied.length;
      const { host, record } = inside(changed);
      await reconciler.adopt(endpointKey('1'), host, record);
      return kernel.applied
        .slice(from)
        .map(({ path: where, step }) => `${where === path ? 'inside' : 'node'}: ${describeStep(step).what}`);
    },
  };
}

test('another MTU reaches both ends of a container’s link at once, the smaller end’s sender first', async (t) => {
  const { become, kernel, totals, path } = await attached(t);
  const changed = ['inside: peer eth0', 'node: veth wfep11111111111'];
  t.deepEqual(await become({ ...of, underlay: { ...of.underlay, mtu: 1400 } }), changed);
  t.true(kernel.has('link eth0 peer address 02:77:0a:64:01:02 mtu 1350', path));
  t.deepEqual(await become(of), changed.toReversed());
  t.true(kernel.has('link eth0 peer address 02:77:0a:64:01:02 mtu 1450', path));
  t.is(totals.repaired, 0);
});

test('a container’s route to its network goes as the route to the grown network comes', async (t) => {
  const { become, kernel, path } = await attached(t);
  const grown = { ...of, network: { ...of.network, subnet: IpNetwork.parse('10.96.0.0/12') } };
  t.deepEqual(await become(grown), ['inside: route 10.96.0.0/12', 'inside: route 10.100.0.0/16']);
  t.true(kernel.has('route 10.96.0.0/12 via 10.100.1.1 dev eth0', path));
  t.false(kernel.has('route 10.100.0.0/16 via 10.100.1.1 dev eth0', path));
});

test('a peer of a tunnel that no record wants is no problem: its own record ends next', async (t) => {
  const { reconciler, problems } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  await reconciler.set(new RecordMap([[peer(4), compilePeer(of, lease(of.network, 4))]]));
  await reconciler.set(new RecordMap([[{ kind: 'network', network: 'blue' }, undefined]]));
  await reconciler.compare('asked');
  t.deepEqual(problems.list(), []);
});

test('who answers for an address announces it, twice', async (t) => {
  const { kernel, reconciler, path } = await attached(t);
  const twice = (what: string): Promise<unknown> =>
    until(`${what} twice`, () => kernel.announced.filter((one) => one === what).length === 2, SOON);
  await twice(`10.100.1.2 on eth0 of ${path}`);
  const claimed = compileClaim(
    of,
    { network: 'blue', ip: ip('10.100.1.9'), node: 'node2', endpoint: '2'.repeat(16), state: 'granted' },
    lease(of.network, 2),
  );
  await reconciler.set(new RecordMap([[{ kind: 'claim', network: 'blue', id: '10.100.1.9' }, claimed]]));
  await twice(`10.100.1.9 on wfbr4097 of ${NODE_PATH}`);
  const guest = compileEndpoint(of, endpoint(of, '3'.repeat(16), 3, path, { ip: '10.100.7.9/32' })).host;
  await reconciler.set(new RecordMap([[endpointKey('3'), guest.filter(({ kind }) => kind === 'route')]]));
  await reconciler.set(new RecordMap([[endpointKey('3'), undefined]]));
  await twice(`10.100.7.9 on wfbr4097 of ${NODE_PATH}`);
  // Whoever was asked by it meanwhile remembers the other MAC address.
  const before = kernel.announced.length;
  kernel.breakByHand.changeLink('wfbr4097', { mac: '02:00:00:00:00:02' });
  await reconciler.compare('asked');
  const gateway = `10.100.1.1 on wfbr4097 of ${NODE_PATH}`;
  await until(
    'the gateway twice',
    () => kernel.announced.slice(before).filter((one) => one === gateway).length === 2,
    SOON,
  );
  const { length } = kernel.announced;
  await reconciler.compare('asked');
  await new Promise((resolve) => setTimeout(resolve, 400));
  t.is(kernel.announced.length, length, 'and not again where nothing has changed');
});

test('a restored route to fe80::/64 fits, on the link of any network', (t) => {
  const desired = new Desired();
  const links = ['wfbr4097', 'wfbr4098', 'wfbr4099'];
  for (const link of links)
    desired.set({ kind: 'network', network: link }, [{ kind: 'address', link, address: 'fe80::1/64' }]);
  desired.set({ kind: 'network', network: 'wfbr4099' }, undefined);
  const told = (link: string): boolean => {
    const object = { kind: 'route', to: 'fe80::/64', link } as const;
    const objects = new Map([[objectKey(object), { object, owned: true }]]);
    const none = new Set<never>();
    return desired.concerns({ kind: 'changed', objects, gone: none, linksGone: none }, () => false, true);
  };
  t.deepEqual(links.map(told), [false, false, true]);
});

test('the records of a network are its own only, for any name', async (t) => {
  const { reconciler } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  const forwarding = { kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' } as const;
  const keys: RecordKey[] = [
    { kind: 'network', network: 'on' },
    { kind: 'claim', network: 'on', id: '10.100.1.9' },
    { kind: 'claim', network: 'claim', id: 'on' },
    { kind: 'endpoint', network: 'blue', id: 'on' },
    { kind: 'host-interface', id: 'on' },
    { kind: 'attachment', id: 'on' },
  ];
  await reconciler.set(new RecordMap(keys.map((key) => [key, [forwarding]] as const)));
  t.deepEqual(reconciler.recordsOf('on'), keys.slice(0, 2));
  await reconciler.set(reconciler.recordsOf('on').map((key) => [key, undefined] as const));
  t.deepEqual(reconciler.recordsOf('on'), []);
  t.true(reconciler.wants(objectKey(forwarding)), 'the other networks still want it');
  await reconciler.set(new RecordMap(keys.map((key) => [key, undefined] as const)));
  t.false(reconciler.wants(objectKey(forwarding)));
});

test('repeated drift in a container is a problem of its endpoint and ends with it', async (t) => {
  const { kernel, reconciler, problems } = await running({ prune: true });
  t.teardown(() => reconciler.stop());
  const hands = kernel.addContainer('/run/netns/c1');
  const { namespace, sandbox } = await kernel.openNamespace('/run/netns/c1');
  const record = endpoint(of, '0000000000000001', 2, '/run/netns/c1', { sandbox });
  const { host, container } = compileEndpoint(of, record);
  const inside = { sandbox, hostIfname: record.hostIfname, objects: container };
  const key = endpointKey(record.id);
  await reconciler.attach(key, host, inside, namespace, await namespace.observe([]));
  namespace.close();
  for (let i = 0; i < 5; i++) {
    t.deepEqual(problems.list(), []);
    hands.delete(routeKey('0.0.0.0/0'));
    await reconciler.compare('asked');
  }
  const [contested] = problems.list();
  t.is(contested?.what, 'route 0.0.0.0/0 in /run/netns/c1');
  t.regex(contested?.why ?? '', /5 times within a minute/);
  t.truthy(problems.get({ scope: endpointScope(record), kind: 'contested', id: 'route 0.0.0.0/0' }));
  await reconciler.detach(key);
  t.deepEqual(problems.list(), []);
  t.is(kernel.openHandles('/run/netns/c1'), 0);
});
