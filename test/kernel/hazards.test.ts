// Kernel hazards beside damage by hand.
//
// Tiny MTUs, churn, floods of notifications, listeners that throw, and descriptors that run out. Each of these once lost
// something or could have ended the agent.
import { container, sh } from './private.js';

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';

import test from 'ava';
import koffi from 'koffi';

import type { Kernel, KernelEvent } from '../../agent/kernel/kernel.js';
import { openKernel } from '../../agent/kernel/linux.js';
import { compileEndpoint, compileNetwork, compilePeer, type Membership } from '../../core/compile.js';
import { WeftError } from '../../core/errors.js';
import { linkKey, type KernelObject } from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { until } from '../lab/wait.js';
import { endpoint, ip, lease, membership, network, noFirewall } from './samples.js';

const SOON = { everyMs: 10 };

const fds = (): number => readdirSync('/proc/self/fd').length;
const turnOnce = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

let kernel: Kernel;
test.before(async () => {
  sh(
    'ip link set lo up; ip link add eth0 type veth peer name eth0p; ip link set eth0 up; ip link set eth0p up',
  );
  sh('ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad');
  kernel = await openKernel({ firewall: noFirewall });
});
test.afterEach.always(async () => {
  await reach([]);
});
test.after.always(() => kernel.close());

async function stepsTo(desired: readonly KernelObject[]): Promise<unknown[]> {
  const sysctls = desired.flatMap((object) => (object.kind === 'sysctl' ? [object.path] : []));
  const { steps, conflicts } = plan(await kernel.node.observe(sysctls), desired, { prune: true });
  return [...steps, ...conflicts];
}

/** Applies one plan, and fails unless nothing is left to do. */
async function reach(desired: readonly KernelObject[]): Promise<void> {
  const sysctls = desired.flatMap((object) => (object.kind === 'sysctl' ? [object.path] : []));
  const { steps } = plan(await kernel.node.observe(sysctls), desired, { prune: true });
  const failures = await kernel.node.apply(steps);
  const left = await stepsTo(desired);
  if (failures.length + left.length > 0) throw new Error(JSON.stringify({ failures, left }, undefined, 1));
}

const everything = (of: Membership): KernelObject[] => [
  ...compileNetwork(of),
  ...[2, 3, 4].flatMap((node) => compilePeer(of, lease(of.network, node))),
];

const blue = (dual = false): Membership => membership(network('blue', 4097, 100, dual));

test.serial('a network whose MTU is too small for IPv6 works', async (t) => {
  const of = blue();
  const small: Membership = { ...of, network: { ...of.network, mtu: 1000 } };
  await t.notThrowsAsync(reach(everything(small)));
});

test.serial('a changed MTU keeps the neighbour entries', async (t) => {
  const desired = everything(blue());
  await reach(desired);
  sh('ip link set wfvx4097 mtu 1400');
  await t.notThrowsAsync(reach(desired));
});

test.serial('the MTU of the route to a peer changes in place, in both families', async (t) => {
  const of = blue(true);
  const peerOf = (mtu?: number): KernelObject[] => [
    ...compileNetwork(of),
    ...compilePeer(of, { ...lease(of.network, 2), ...(mtu !== undefined && { mtu }) }),
  ];
  const routes = (): string => sh('ip route show 10.100.2.0/24; ip -6 route show fd42:100:0:2::/64');
  for (const mtu of [undefined, 1400, 1300, undefined]) {
    await reach(peerOf(mtu));
    const shown = routes().match(/mtu \d+/g);
    t.deepEqual(shown, mtu === undefined ? null : [`mtu ${mtu - 50}`, `mtu ${mtu - 70}`]);
    t.is(routes().trim().split('\n').length, 2);
  }
});

test.serial('a bridge keeps its MTU when the last port leaves', async (t) => {
  const of = blue();
  const shared = compileNetwork(of);
  await reach(shared);
  const box = await container();
  const one = endpoint(of, '0000000000000001', 2, box.path);
  const compiled = compileEndpoint(of, one);
  const { namespace } = await kernel.openNamespace(box.path);
  const { steps } = plan(assume([]), compiled.host, { prune: false });
  t.deepEqual(await kernel.node.apply(steps, new Map([[one.hostIfname, namespace]])), []);
  namespace.close();
  t.deepEqual(await kernel.node.apply([{ do: 'delete-link', name: one.hostIfname }]), []);
  // The neighbour of the bridge that the container was does not go with its link.
  const [neighbour, ...others] = await stepsTo(shared);
  t.like(neighbour, { do: 'delete', object: { kind: 'neighbour', mac: one.mac } });
  t.deepEqual(others, []);
  await box.end();
});

test.serial('the source of a tunnel changes in place, in both families', async (t) => {
  const of = blue(true);
  await reach(everything(of));
  const index = sh('cat /sys/class/net/wfvx4097/ifindex 2>/dev/null; ip -o link show wfvx4097 | cut -d: -f1');
  const moved: Membership = {
    ...of,
    underlay: { ...of.underlay, ip: ip('192.0.2.200'), ip6: ip('2001:db8::200') },
  };
  await t.notThrowsAsync(reach(everything(moved)));
  t.regex(sh('ip -d link show wfvx4097'), /local 192\.0\.2\.200 /);
  t.regex(sh('ip -d link show wfvx6-4097'), /local 2001:db8::200 /);
  t.is(sh('cat /sys/class/net/wfvx4097/ifindex 2>/dev/null; ip -o link show wfvx4097 | cut -d: -f1'), index);
});

test.serial('a link that was deleted and recreated is found under its new index', async (t) => {
  const desired = everything(blue());
  await reach(desired);
  sh('ip link del wfbr4097; ip link add wfother type bridge; ip link add wfbr4097 group 119 type bridge');
  await reach(desired);
  t.regex(sh('ip addr show wfbr4097'), /10\.100\.1\.1\/24/);
  t.notRegex(sh('ip addr show wfother'), /inet /);
  sh('ip link del wfother');
});

test.serial('churn of other links hides nothing', async (t) => {
  const desired = everything(blue());
  await reach(desired);
  const churn = spawn('sh', [
    '-c',
    'while :; do for i in 1 2 3 4; do ip link add ch$i type bridge; done; for i in 1 2 3 4; do ip link del ch$i; done; done',
  ]);
  try {
    for (let i = 0; i < 300; i++) {
      t.deepEqual(await stepsTo(desired), [], `comparison ${i}`);
      await turnOnce();
    }
  } finally {
    churn.kill('SIGKILL');
    await once(churn, 'exit');
    for (const i of [1, 2, 3, 4]) sh(`ip link del ch${i} 2>/dev/null || true`);
  }
});

test.serial('a thousand peers are programmed without blocking the event loop', async (t) => {
  const of = blue();
  const wide: Membership = { ...of, network: { ...of.network } };
  const peers = Array.from({ length: 1000 }, (_, i): KernelObject[] => {
    const subnet = `10.${101 + Math.floor(i / 200)}.${i % 200}`;
    const mac = `02:00:00:00:${(i >> 8).toString(16).padStart(2, '0')}:${(i & 255).toString(16).padStart(2, '0')}`;
    return [
      { kind: 'fdb', link: 'wfvx4097', mac, dst: '192.0.2.9' },
      { kind: 'neighbour', link: 'wfvx4097', ip: `${subnet}.0`, mac },
      { kind: 'route', to: `${subnet}.0/24`, link: 'wfvx4097', via: `${subnet}.0`, onlink: true },
    ];
  }).flat();
  const desired = [...compileNetwork(wide), ...peers];
  let turns = 0;
  const timer = setInterval(() => turns++, 1);
  const begin = performance.now();
  const { steps } = plan(assume([]), desired, { prune: false });
  t.deepEqual(await kernel.node.apply(steps), []);
  clearInterval(timer);
  t.log(
    `${steps.length} steps in ${(performance.now() - begin).toFixed(0)} ms, ${turns} turns of the event loop`,
  );
  t.true(turns > 0);
  t.deepEqual(await stepsTo(desired), []);
});

test.serial('a listener that throws does not end the process', async (t) => {
  let calls = 0;
  const warnings: string[] = [];
  const warned = (warning: Error): number => warnings.push(warning.message);
  process.on('warning', warned);
  const stop = kernel.watch(() => {
    calls++;
    throw new Error('a fault of the listener');
  });
  sh('ip addr add 198.51.100.7/24 dev eth0');
  await until('the first notification comes', () => calls > 0, SOON);
  const before = calls;
  sh('ip addr del 198.51.100.7/24 dev eth0');
  await until('the second notification comes', () => calls > before, SOON);
  stop();
  await until('the warning comes', () => warnings.includes('a fault of the listener'), SOON);
  process.off('warning', warned);
  t.pass();
});

test.serial('a flood of notifications that does not fit is reported', async (t) => {
  const desired = everything(blue());
  await reach(desired);
  const kinds = new Set<string>();
  const stop = kernel.watch((event: KernelEvent) => kinds.add(event.kind));
  // The event loop is blocked meanwhile, so that nothing is read.
  sh(
    `for i in $(seq 0 199); do for j in $(seq 1 250); do echo "route add 198.18.$i.$j/32 dev eth0"; done; done | ip -batch -`,
  );
  await until('the loss is noticed', () => kinds.has('lost'), SOON);
  // And it keeps listening.
  kinds.clear();
  sh('ip route flush 198.18.0.0/16 || true; ip link set wfvx4097 mtu 1300');
  await until('a notification comes after the flood', () => kinds.has('changed'), SOON);
  stop();
  await reach(desired);
  t.pass();
});

test.serial('a link that is set down is reported', async (t) => {
  const desired = everything(blue());
  await reach(desired);
  const seen: KernelEvent[] = [];
  const stop = kernel.watch((event) => seen.push(event));
  sh('ip link set wfvx4097 down');
  await until(
    'the link is reported',
    () =>
      seen.some(
        (event) => event.kind === 'lost' || (event.kind === 'changed' && event.gone.has(linkKey('wfvx4097'))),
      ),
    SOON,
  );
  stop();
  await t.notThrowsAsync(reach(desired));
});

test.serial('echo works over IPv6, and concurrent calls get their own replies', async (t) => {
  const answers = await Promise.all([
    kernel.ping([{ ip: '192.0.2.1' }, { ip: '2001:db8::1' }], 500),
    kernel.ping([{ ip: '2001:db8::1' }, { ip: '192.0.2.1' }], 500),
  ]);
  for (const rtt of answers.flat()) t.true(rtt !== undefined && rtt >= 0 && rtt < 100);
});

test.serial('running out of descriptors does not make a container absent', async (t) => {
  const box = await container();
  const first = kernel.identify(box.path);
  const libc = koffi.load('libc.so.6');
  const setrlimit = libc.func('int setrlimit(int resource, const uint64_t *limit)');
  const getrlimit = libc.func('int getrlimit(int resource, _Out_ uint64_t *limit)');
  const RLIMIT_NOFILE = 7;
  const limit = [0n, 0n];
  getrlimit(RLIMIT_NOFILE, limit);
  setrlimit(RLIMIT_NOFILE, [3n, limit[1]]);
  try {
    const error = await t.throwsAsync(kernel.openNamespace(box.path));
    t.false(error instanceof WeftError && error.code === 'NOT_FOUND', String(error));
    t.throws(() => kernel.identify(box.path));
  } finally {
    setrlimit(RLIMIT_NOFILE, limit);
  }
  t.deepEqual(kernel.identify(box.path), first);
  await box.end();
});

test.serial('a closed namespace is not used any more, and closing it again is harmless', async (t) => {
  const box = await container();
  const { namespace } = await kernel.openNamespace(box.path);
  namespace.close();
  const other = await kernel.openNamespace(box.path);
  namespace.close();
  await t.throwsAsync(async () => namespace.linkNames());
  t.deepEqual(await other.namespace.linkNames(), new Set(['lo']));
  other.namespace.close();
  await box.end();
});

test.serial('a container that ends while its namespace is open does no damage', async (t) => {
  const of = blue();
  await reach(compileNetwork(of));
  const box = await container();
  const one = endpoint(of, '0000000000000001', 2, box.path);
  const { host, container: inside } = compileEndpoint(of, one);
  const { namespace } = await kernel.openNamespace(box.path);
  await box.end();
  const { steps } = plan(assume([]), host, { prune: false });
  t.deepEqual(await kernel.node.apply(steps, new Map([[one.hostIfname, namespace]])), []);
  t.deepEqual(await namespace.apply(plan(await namespace.observe([]), inside, { prune: false }).steps), []);
  const error = await t.throwsAsync(kernel.openNamespace(box.path), { instanceOf: WeftError });
  t.regex(error.message, new RegExp(box.path));
  namespace.close();
  // The last handle had kept the namespace, and the pair in it.
  await until('the pair is deleted', async () => !(await kernel.node.linkNames()).has(one.hostIfname), SOON);
});

test.serial('watching leaks no descriptor', async (t) => {
  kernel.watch(() => undefined)();
  await turnOnce();
  const before = fds();
  for (let i = 0; i < 50; i++) {
    const stop = kernel.watch(() => undefined);
    stop();
    stop();
  }
  await turnOnce();
  t.is(fds(), before);
});

test.serial('an attach is fast', async (t) => {
  const of = blue();
  await reach(compileNetwork(of));
  const box = await container();
  const { namespace } = await kernel.openNamespace(box.path);
  const times: number[] = [];
  for (let i = 0; i < 60; i++) {
    const one = endpoint(of, i.toString(16).padStart(16, '0'), 2, box.path, { hostIfname: `wfep${i}` });
    const { host, container: inside } = compileEndpoint(of, one);
    const peer = inside.filter((object) => object.kind === 'link');
    const begin = performance.now();
    const actual = { ...assume(peer), up: new Set<string>(i === 0 ? [] : ['lo']) };
    const failures = await Promise.all([
      kernel.node.apply(
        plan(assume([]), host, { prune: false }).steps,
        new Map([[one.hostIfname, namespace]]),
      ),
      namespace.apply(plan(actual, inside, { prune: false }).steps),
    ]);
    times.push(performance.now() - begin);
    if (i === 0)
      t.deepEqual(plan(await namespace.observe([]), inside, { prune: true }), { steps: [], conflicts: [] });
    t.deepEqual(failures, [[], []]);
    await kernel.node.apply([{ do: 'delete-link', name: one.hostIfname }]);
  }
  namespace.close();
  times.sort((a, b) => a - b);
  t.log(`attach: p50 ${times[30]?.toFixed(2)} ms, p99 ${times[59]?.toFixed(2)} ms`);
  await box.end();
});
