// The Linux kernel layer: objects are applied, read back and repaired.
import { container, sh } from './private.js';

import { readdirSync } from 'node:fs';

import test from 'ava';

import { findUnderlay } from '../../agent/underlay/find-underlay.js';
import { openKernel } from '../../agent/kernel/linux.js';
import type { Kernel, KernelEvent, UnderlayLink } from '../../agent/kernel/kernel.js';
import {
  compileClaim,
  compileEndpoint,
  compileNetwork,
  compilePeer,
  type Membership,
} from '../../core/compile.js';
import {
  addressKey,
  linkKey,
  neighbourKey,
  routeKey,
  type KernelObject,
  type ObjectKey,
} from '../../core/objects/index.js';
import { assume, plan, type Step } from '../../core/plan.js';
import { until } from '../lab/wait.js';
import { endpoint, lease, membership, network, noFirewall } from './samples.js';

const SOON = { everyMs: 10 };

let kernel: Kernel;
test.before(async () => {
  sh(
    'ip link set lo up; ip link add eth0 type veth peer name eth0p; ip link set eth0 up; ip link set eth0p up',
  );
  sh(
    'ip addr add 192.0.2.1/24 dev eth0; ip addr add 2001:db8::1/64 dev eth0 nodad; ip route add default via 192.0.2.254',
  );
  kernel = await openKernel({ firewall: noFirewall });
});
test.afterEach.always(async () => {
  await reach([]);
});
test.after.always(() => kernel.close());

const sysctlsOf = (objects: readonly KernelObject[]): string[] =>
  objects.flatMap((object) => (object.kind === 'sysctl' ? [object.path] : []));

async function stepsTo(desired: readonly KernelObject[]): Promise<Step[]> {
  const { steps, conflicts } = plan(await kernel.node.observe(sysctlsOf(desired)), desired, { prune: true });
  if (conflicts.length > 0) throw new Error(JSON.stringify(conflicts));
  return steps;
}

/** Applies a plan, and fails unless the kernel then has exactly these objects. */
async function reach(desired: readonly KernelObject[]): Promise<void> {
  const failures = await kernel.node.apply(await stepsTo(desired));
  const left = await stepsTo(desired);
  if (failures.length + left.length > 0) throw new Error(JSON.stringify({ failures, left }, undefined, 1));
}

function everything(of: Membership): KernelObject[] {
  const claim = {
    network: of.network.name,
    ip: of.lease.subnet.at(77),
    node: 'node3',
    endpoint: 'e',
    state: 'granted',
  } as const;
  const peers = [2, 3, 4].map((node) => lease(of.network, node));
  return [
    ...compileNetwork(of),
    ...peers.flatMap((peer) => compilePeer(of, peer)),
    ...compileClaim(of, claim, peers[1]),
  ];
}

for (const dual of [false, true]) {
  const title = dual ? 'dual stack' : 'IPv4';

  test.serial(`${title}: a network with peers and a claim is created, read back, and deleted`, async (t) => {
    const of = membership(network('blue', 4097, 100, dual));
    await reach(everything(of));
    t.regex(
      sh('ip -d link show wfvx4097'),
      /vxlan id 4097 local 192\.0\.2\.1 .*dstport 8472 nolearning .*noudpcsum/,
    );
    t.regex(sh('ip -d link show wfbr4097'), /alias weft network blue/);
    t.regex(sh('ip route show 10.100.2.0/24'), /via 10\.100\.2\.0 dev wfvx4097 proto 119 onlink/);
    t.regex(sh('bridge fdb show dev wfvx4097'), /dst 192\.0\.2\.2 self permanent/);
    t.regex(sh('ip neigh show proxy'), /10\.100\.1\.77 dev wfbr4097/);
    t.is(sh('ip -6 addr show dev wfvx4097 scope link').trim(), '');
    await reach([]);
    t.notRegex(sh('ip link; ip route; ip -6 route'), /wf|119/);
  });

  test.serial(`${title}: every damage by hand is detected and repaired`, async (t) => {
    const of = membership(network('blue', 4097, 100, dual));
    const desired = everything(of);
    await reach(desired);
    const damages = [
      'ip route del 10.100.2.0/24',
      'ip route replace 10.100.2.0/24 via 10.100.3.0 dev wfvx4097 onlink proto 119',
      'ip neigh del 10.100.2.0 dev wfvx4097',
      'ip neigh replace 10.100.2.0 lladdr 02:00:00:00:00:09 dev wfvx4097 nud permanent',
      'ip neigh change 10.100.2.0 lladdr 02:00:00:00:00:09 dev wfvx4097 nud stale',
      'bridge fdb del $(bridge fdb show dev wfvx4097 | head -1 | cut -d" " -f1) dev wfvx4097',
      'bridge fdb add 02:00:00:00:00:99 dev wfvx4097 dst 192.0.2.99 self permanent',
      'ip neigh del proxy 10.100.1.77 dev wfbr4097',
      'ip addr del 10.100.1.1/24 dev wfbr4097',
      'ip addr flush dev wfvx4097',
      'ip link set wfbr4097 down',
      'ip link set wfvx4097 down',
      'ip link del wfvx4097',
      'ip link del wfbr4097',
      'ip link set wfvx4097 mtu 1300',
      'ip link set wfvx4097 address 02:00:00:00:00:55',
      'ip link set wfbr4097 address 02:00:00:00:00:55',
      'ip link set wfbr4097 alias other',
      'ip link del wfvx4097; ip link add wfvx4097 group 119 type vxlan id 9 dstport 4789 local 192.0.2.1',
      'sysctl -qw net.ipv4.ip_forward=0',
      'sysctl -qw net.ipv4.conf.wfbr4097.forwarding=0',
      ...(dual
        ? [
            'ip -6 route del fd42:100:0:2::/64',
            'ip link del wfvx6-4097',
            'ip -6 addr flush dev wfbr4097 scope global',
          ]
        : []),
    ];
    for (const damage of damages) {
      sh(damage);
      t.not((await stepsTo(desired)).length, 0, `not seen: ${damage}`);
      await t.notThrowsAsync(reach(desired), damage);
    }
  });
}

test.serial('two dual-stack networks lose and regain their own routes to fe80::/64', async (t) => {
  const desired = [4097, 4098].flatMap((vni) =>
    everything(membership(network(`n${vni}`, vni, vni - 3997, true))),
  );
  await reach(desired);
  const lose = (bridge: string): string => sh(`ip -6 route del fe80::/64 dev ${bridge}`);
  for (const bridges of [['wfbr4097'], ['wfbr4098'], ['wfbr4097', 'wfbr4098']]) {
    for (const bridge of bridges) lose(bridge);
    await t.notThrowsAsync(reach(desired), bridges.join());
    for (const bridge of ['wfbr4097', 'wfbr4098'])
      t.not(sh(`ip -6 route show fe80::/64 dev ${bridge}`), '', bridge);
  }
});

test.serial('unowned objects are never touched, and conflicts are reported', async (t) => {
  const of = membership(network('blue', 4097, 100, false));
  sh(
    'ip link add wfother type bridge; ip link add br9 type bridge; ip addr add 198.51.100.1/24 dev br9; ip link set br9 up',
  );
  sh(
    'ip route add 10.100.2.0/24 via 192.0.2.7; ip neigh add 192.0.2.8 lladdr 02:00:00:00:00:08 dev eth0 nud permanent',
  );
  const before = sh(
    'ip link show wfother; ip addr show br9; ip route show 10.100.2.0/24; ip neigh show dev eth0',
  );
  const desired = everything(of);
  const { steps, conflicts } = plan(await kernel.node.observe(sysctlsOf(desired)), desired, { prune: true });
  t.deepEqual(
    conflicts.map(({ object }) => object.kind),
    ['route'],
  );
  await kernel.node.apply(steps);
  await kernel.node.apply((await stepsTo([])).concat());
  t.is(
    sh('ip link show wfother; ip addr show br9; ip route show 10.100.2.0/24; ip neigh show dev eth0'),
    before,
  );
  sh('ip link del wfother; ip link del br9; ip route del 10.100.2.0/24');
});

test.serial('each step is idempotent', async (t) => {
  const of = membership(network('blue', 4097, 100, true));
  const desired = everything(of);
  const { steps } = plan(assume([]), desired, { prune: true });
  t.deepEqual(await kernel.node.apply(steps), []);
  const again = await kernel.node.apply(steps);
  t.true(
    again.every(({ step, errno }) => errno === 'EEXIST' && (step.do === 'create-link' || step.do === 'put')),
  );
  t.deepEqual(await stepsTo(desired), []);
  const { steps: away } = plan(assume(desired), [], { prune: true });
  t.deepEqual(await kernel.node.apply(away), []);
  t.deepEqual(await kernel.node.apply(away), []);
});

test.serial(
  'a link is absent when its deletion returns; an undeletable one is reported, an absent one ignored',
  async (t) => {
    sh('ip link add wfgone0 group 119 type veth peer name gone1');
    const one = (name: string) => kernel.node.apply([{ do: 'delete-link', name }]);
    t.deepEqual(await one('wfgone0'), []);
    t.notRegex(sh('ip -o link'), /gone/);
    t.deepEqual(await one('wfgone0'), []);
    const [refused] = await one('lo');
    t.regex(refused?.errno ?? '', /^E/);
  },
);

test.serial('two containers are attached in a few round trips and reach each other', async (t) => {
  const of = membership(network('blue', 4097, 100, true));
  const shared = compileNetwork(of);
  await reach(shared);
  const boxes = await Promise.all([container(), container()]);
  const host: KernelObject[] = [...shared];
  for (const [i, box] of boxes.entries()) {
    const of1 = endpoint(of, `${i}000000000000000`, 2 + i, box.path);
    const compiled = compileEndpoint(of, of1);
    host.push(...compiled.host);
    const { namespace, isNode } = await kernel.openNamespace(box.path);
    t.false(isNode);
    const begin = performance.now();
    t.deepEqual(
      await kernel.node.apply(
        plan(assume([]), compiled.host, { prune: false }).steps,
        new Map([[of1.hostIfname, namespace]]),
      ),
      [],
    );
    const inside = plan(await namespace.observe([]), compiled.container, { prune: false });
    t.deepEqual(await namespace.apply(inside.steps), []);
    t.log(`attached in ${(performance.now() - begin).toFixed(2)} ms`);
    const there = await namespace.observe(sysctlsOf(compiled.container));
    t.deepEqual(plan(there, compiled.container, { prune: true }), {
      steps: [],
      conflicts: [],
    });
    namespace.close();
  }
  t.deepEqual(await stepsTo(host), []);
  sh(`nsenter --net=${boxes[0]?.path} ping -c1 -W2 10.100.1.3`);
  sh(`nsenter --net=${boxes[0]?.path} ping -c1 -W2 fd42:100:0:1::3`);
  // After its bridge was deleted and recreated, a port returns to it.
  sh('ip link del wfbr4097');
  await reach(host);
  sh(`nsenter --net=${boxes[0]?.path} ping -c1 -W2 10.100.1.3`);
  for (const box of boxes) await box.end();
  await until(
    'the pair is deleted with its container',
    async () => ![...(await kernel.node.linkNames())].some((name) => name.startsWith('wfep')),
    SOON,
  );
});

test.serial('a thousand peers', async (t) => {
  const of = membership(network('blue', 4097, 100, false));
  const big = { ...of, network: { ...of.network } };
  const peers = Array.from({ length: 250 }, (_, i) => i + 2).filter((node) => node < 255);
  const desired = [
    ...compileNetwork(big),
    ...peers.flatMap((node) => compilePeer(big, lease(big.network, node))),
  ];
  const begin = performance.now();
  await reach(desired);
  t.log(`${desired.length} objects in ${(performance.now() - begin).toFixed(1)} ms`);
  t.is(sh('ip route show proto 119').trim().split('\n').length, peers.length);
});

test.serial('notifications report damage and the underlay, and end on stop', async (t) => {
  const of = membership(network('blue', 4097, 100, false));
  const desired = everything(of);
  await reach(desired);
  const gone = new Set<ObjectKey>();
  const changed = new Set<ObjectKey>();
  const kinds = new Set<string>();
  const stop = kernel.watch((event: KernelEvent) => {
    kinds.add(event.kind);
    if (event.kind !== 'changed') return;
    for (const key of event.gone) gone.add(key);
    for (const key of event.objects.keys()) changed.add(key);
  });
  sh(
    'ip route del 10.100.2.0/24; ip neigh del 10.100.3.0 dev wfvx4097; ip addr del 10.100.1.1/24 dev wfbr4097',
  );
  sh('ip link set wfvx4097 mtu 1300; ip addr add 198.51.100.7/24 dev eth0; ip link del wfbr4097');
  await until('the notifications come', () => gone.has(linkKey('wfbr4097')) && kinds.has('underlay'), SOON);
  for (const key of [
    routeKey('10.100.2.0/24'),
    neighbourKey('wfvx4097', '10.100.3.0'),
    addressKey('wfbr4097', '10.100.1.1/24'),
  ])
    t.true(gone.has(key), key);
  t.true(changed.has(linkKey('wfvx4097')));
  stop();
  sh('ip addr del 198.51.100.7/24 dev eth0');
});

test.serial('routes of the host are told from weft’s own, with their changes', async (t) => {
  await reach(everything(membership(network('blue', 4097, 100, false))));
  const kinds = new Set<string>();
  const stop = kernel.watch((event: KernelEvent) => kinds.add(event.kind));
  sh('ip route add 10.103.0.0/16 via 192.0.2.9 metric 50; ip route add blackhole 10.104.0.0/16');
  await until('the notification comes', () => kinds.has('routes'), SOON);
  stop();
  const found = (await kernel.routes()).map(({ to, ...rest }) => ({ to: to.toString(), ...rest }));
  const of = (prefix: string): unknown => found.find(({ to }) => to === prefix);
  t.deepEqual(of('10.103.0.0/16'), {
    ...{ to: '10.103.0.0/16', link: 'eth0', via: '192.0.2.9', isLan: false, isOwn: false },
  });
  t.deepEqual(of('10.104.0.0/16'), { to: '10.104.0.0/16', isLan: false, isOwn: false });
  t.like(of('192.0.2.0/24'), { link: 'eth0', isLan: true, isOwn: false });
  // The bridge's own route, by the kernel, and a peer's, by weft.
  t.like(of('10.100.1.0/24'), { link: 'wfbr4097', isOwn: true });
  t.like(of('10.100.2.0/24'), { isOwn: true });
  sh('ip route del 10.103.0.0/16; ip route del blackhole 10.104.0.0/16');
});

test.serial('routes of other tables, the host’s own addresses, and the LAN of a DHCP client', async (t) => {
  const kinds = new Set<string>();
  const stop = kernel.watch((event: KernelEvent) => kinds.add(event.kind));
  // As a VPN does.
  sh('ip route add 10.105.0.0/16 via 192.0.2.9 table 52');
  const found = async (): Promise<Map<string, unknown>> =>
    new Map((await kernel.routes()).map(({ to, ...rest }) => [to.toString(), rest]));
  t.false((await found()).has('10.105.0.0/16'), 'nothing leads to the table yet');
  await until('the notification comes', () => kinds.has('routes'), SOON);
  kinds.clear();
  sh('ip rule add lookup 52 priority 5270');
  await until('the rule is told of', () => kinds.has('routes'), SOON);
  kinds.clear();
  sh('ip addr add 10.106.7.7/32 dev lo; ip -6 addr add fd42:106::7/128 dev lo');
  await until('an address on the loopback is told of', () => kinds.has('routes'), SOON);
  stop();
  // As dhcpcd does: it makes the route of the LAN itself. A policy for answers repeats the LAN in a table of its own.
  sh('ip addr add 10.107.1.5/24 dev eth0 noprefixroute; ip route add 10.107.1.0/24 dev eth0 proto dhcp');
  sh('ip route add 10.108.1.0/24 dev eth0 proto static; ip route add 10.107.1.0/24 dev eth0 table 52');
  const routes = await found();
  const plain = { isLan: false, isOwn: false };
  const lan = { isLan: true, isOwn: false };
  t.deepEqual(routes.get('10.105.0.0/16'), { link: 'eth0', via: '192.0.2.9', table: '52', ...plain });
  t.deepEqual(routes.get('10.106.7.7/32'), { link: 'lo', table: 'local', ...lan });
  t.deepEqual(routes.get('fd42:106::7/128'), { link: 'lo', ...lan });
  t.deepEqual(routes.get('10.107.1.0/24'), { link: 'eth0', ...lan });
  t.deepEqual(routes.get('10.108.1.0/24'), { link: 'eth0', ...plain });
  t.false(routes.has('10.107.1.5/32'), 'the LAN stands for it');
  sh('ip rule del lookup 52 priority 5270; ip route flush table 52; ip route del 10.108.1.0/24');
  sh(
    'ip addr del 10.106.7.7/32 dev lo; ip -6 addr del fd42:106::7/128 dev lo; ip addr del 10.107.1.5/24 dev eth0',
  );
});

test.serial('underlay links are listed', async (t) => {
  const links = await kernel.underlayLinks();
  t.deepEqual(links, [
    {
      ...{ name: 'eth0', mtu: 1500, running: true, addresses: ['192.0.2.1/24', '2001:db8::1/64'] },
      routers: [{ to: '0.0.0.0/0', via: '192.0.2.254' }],
    },
  ]);
});

test.serial(
  'what is wrong with an IPv6 address is told, and the address that the kernel sends from',
  async (t) => {
    sh('ip link add six0 type veth peer name six1; ip link set six0 up; ip link set six1 up');
    sh(`
    ip addr add 2001:db8:6::1/64 dev six0 nodad
    ip addr add 2001:db8:6::2/64 dev six0 nodad preferred_lft 0
    ip addr add 2001:db8:6::3/64 dev six0
    ip addr add 198.51.100.9/32 dev lo
  `);
    const six0 = async (): Promise<UnderlayLink | undefined> =>
      (await kernel.underlayLinks()).find(({ name }) => name === 'six0');
    t.deepEqual((await six0())?.flaws, { '2001:db8:6::2/64': 'deprecated', '2001:db8:6::3/64': 'tentative' });
    const lo = (await kernel.underlayLinks()).find(({ loopback }) => loopback);
    t.deepEqual(lo?.addresses, ['198.51.100.9/32']);

    t.deepEqual(kernel.sendsFrom(4), { ip: '192.0.2.1', link: 'eth0' });
    t.is(kernel.sendsFrom(6), undefined);
    sh('ip -6 route add default via 2001:db8:6::fe dev six0 src 2001:db8:6::1');
    t.deepEqual(kernel.sendsFrom(6), { ip: '2001:db8:6::1', link: 'six0' });
    // By a rule, as a VPN has it, and from an address of the loopback.
    sh('ip route add default dev six0 src 198.51.100.9 table 77; ip rule add pref 77 table 77');
    t.deepEqual(kernel.sendsFrom(4), { ip: '198.51.100.9', link: 'six0' });
    sh('ip rule del pref 77; ip link del six0; ip addr del 198.51.100.9/32 dev lo');
  },
);

test.serial(
  'the addresses of a link that is set down are told, and not those of one without a carrier',
  async (t) => {
    sh('ip link add six0 type veth peer name six1; sysctl -qw net.ipv6.conf.six0.keep_addr_on_down=1');
    t.teardown(() => sh('ip link del six0'));
    sh('ip link set six0 up; ip link set six1 up');
    sh('ip addr add 198.51.100.9/24 dev six0; ip addr add 2001:db8:6::1/64 dev six0 nodad');
    const six0 = async (): Promise<UnderlayLink | undefined> =>
      (await kernel.underlayLinks()).find(({ name }) => name === 'six0');
    sh('ip link set six1 down');
    await until('the carrier is gone', async () => (await six0())?.running === false, SOON);
    t.is((await six0())?.flaws, undefined);
    sh('ip link set six0 down');
    t.deepEqual((await six0())?.flaws, { '198.51.100.9/24': 'down', '2001:db8:6::1/64': 'down' });
  },
);

test.serial(
  'without an IPv6 default route the oldest address is chosen, and not one that came later',
  async (t) => {
    sh('ip link add six0 type veth peer name six1; ip link set six0 up; ip link set six1 up');
    t.teardown(() => sh('ip link del six0'));
    sh('ip addr add 198.51.100.9/24 dev six0; ip addr add 198.51.100.99/24 dev six0');
    for (const ip of ['fd00::5', 'fd00::1', 'fd00::99']) sh(`ip addr add ${ip}/64 dev six0 nodad`);
    t.is(kernel.sendsFrom(6), undefined);
    const { ip, ip6 } = await findUnderlay(kernel, { iface: 'six0' });
    t.deepEqual([ip.toString(), ip6?.toString()], ['198.51.100.9', 'fd00::5']);
  },
);

const echoes = (...ips: string[]): { ip: string }[] => ips.map((ip) => ({ ip }));

test.serial('echo: answered, silent, and nowhere', async (t) => {
  const [near, silent, nowhere] = await kernel.ping(echoes('192.0.2.1', '192.0.2.77', '240.0.0.1'), 100);
  t.true(near !== undefined && near < 50);
  t.is(silent, undefined);
  t.is(nowhere, undefined);
});

test.serial('echo of a size: never fragmented, and nowhere where the link is too small', async (t) => {
  const sizes = [1500, 1501, 28, 1499].map((size) => ({ ip: '192.0.2.1', size }));
  sh('ip link set lo mtu 1500');
  t.teardown(() => sh('ip link set lo mtu 65536'));
  const [full, large, tiny, odd] = await kernel.ping(sizes, 100);
  t.true(full !== undefined && tiny !== undefined && odd !== undefined);
  t.is(large, undefined);
});

test.serial('tags of echo requests that have arrived are heard once, of both families', async (t) => {
  kernel.heardTags();
  await kernel.ping(
    [
      { ip: '192.0.2.1', tag: '0011223344556677' },
      { ip: '2001:db8::1', tag: '8899aabbccddeeff', size: 1400 },
      { ip: '192.0.2.1' },
    ],
    100,
  );
  t.deepEqual(kernel.heardTags(), ['0011223344556677', '8899aabbccddeeff']);
  t.deepEqual(kernel.heardTags(), []);
});

test.serial(
  'who has an address: the link addresses that answer; the next hop and its permanent entry',
  async (t) => {
    sh(
      'ip link add lan type bridge; ip addr add 203.0.113.1/24 dev lan; ip addr add fd99::1/64 dev lan nodad',
    );
    t.teardown(() => sh('ip link del lan'));
    for (const n of [1, 2]) {
      const host = await container();
      const { pid } = host;
      t.teardown(() => host.end());
      sh(`ip link add w${n} master lan type veth peer name eth0 address 02:00:00:00:00:0${n} netns ${pid}`);
      sh(`ip link set w${n} up; ip link set lan up`);
      sh(
        `nsenter -t ${pid} -n sh -c 'ip link set eth0 up; ip addr add 203.0.113.9/24 dev eth0; ip addr add fd99::9/64 dev eth0 nodad'`,
      );
    }
    const both = ['02:00:00:00:00:01', '02:00:00:00:00:02'];
    await until('both answer', async () => (await kernel.whoHas('lan', '203.0.113.9')).length === 2, SOON);
    t.deepEqual(await kernel.whoHas('lan', '203.0.113.9'), both);
    t.deepEqual(await kernel.whoHas('lan', 'fd99::9'), both);
    t.deepEqual(await kernel.whoHas('lan', '203.0.113.77'), []);
    t.deepEqual(kernel.nextHop('203.0.113.9'), { ip: '203.0.113.9', link: 'lan' });
    t.deepEqual(kernel.nextHop('198.51.100.1'), { ip: '192.0.2.254', link: 'eth0' });
    sh('ip neigh replace 203.0.113.9 lladdr 02:00:00:00:00:99 nud permanent dev lan');
    t.is(kernel.nextHop('203.0.113.9')?.permanent, '02:00:00:00:00:99');
  },
);

test.serial('the neighbour tables, with the limit of the kernel', (t) => {
  const tables = kernel.neighbourTables();
  t.deepEqual(
    tables.map(({ family }) => family).toSorted((a, b) => a - b),
    [4, 6],
  );
  t.true(tables.every(({ entries, most }) => entries >= 0 && most > 0));
});

test.serial('unresolved neighbours are resolved again, and known ones are kept', async (t) => {
  const neighbours = (): string => sh('ip neigh show dev eth0');
  sh('ip neigh replace 192.0.2.90 lladdr 02:00:00:00:00:90 nud reachable dev eth0');
  await kernel.ping(echoes('192.0.2.78', '2001:db8::78'), 1);
  t.regex(neighbours(), /^192\.0\.2\.78 +INCOMPLETE/m);
  t.regex(neighbours(), /^2001:db8::78 +INCOMPLETE/m);
  kernel.refreshNeighbours('eth0');
  t.notRegex(neighbours(), /INCOMPLETE/);
  t.regex(neighbours(), /^192\.0\.2\.90 lladdr 02:00:00:00:00:90/m);
  kernel.refreshNeighbours('eth0');
  kernel.refreshNeighbours('there-is-none');
  sh('ip neigh del 192.0.2.90 dev eth0');
});

test.serial('a link that loses and regains its carrier is reported', async (t) => {
  sh('ip link add far0 type veth peer name far1; ip addr add 198.51.100.1/24 dev far0; ip link set far0 up');
  let seen = 0;
  const stop = kernel.watch(({ kind }) => (seen += kind === 'underlay' ? 1 : 0));
  const isRunning = async (): Promise<boolean | undefined> =>
    (await kernel.underlayLinks()).find(({ name }) => name === 'far0')?.running;
  t.is(await isRunning(), false);
  for (const state of ['up', 'down', 'up']) {
    const before = seen;
    sh(`ip link set far1 ${state}`);
    await until(`it is reported that far1 is ${state}`, () => seen > before, SOON);
    t.is(await isRunning(), state === 'up');
  }
  stop();
  sh('ip link del far0');
});

test.serial('paths that are no namespaces are refused by name, and no descriptor leaks', async (t) => {
  const box = await container();
  await kernel.openNamespace(box.path).then(({ namespace }) => namespace.close());
  const fds = (): number => readdirSync('/proc/self/fd').length;
  const before = fds();
  for (const path of [
    '/run/netns/there-is-none',
    '/proc/999999999/ns/net',
    '/etc/passwd',
    '/tmp',
    `/proc/${box.pid}/ns/uts`,
  ]) {
    const error = await t.throwsAsync(kernel.openNamespace(path));
    t.regex(error?.message ?? '', new RegExp(path.replaceAll('/', '\\/')));
    t.is(kernel.identify(path), undefined);
  }
  const first = kernel.identify(box.path);
  for (let i = 0; i < 200; i++) {
    const { namespace, sandbox } = await kernel.openNamespace(box.path);
    t.is(sandbox.cookie, first?.cookie ?? '');
    namespace.close();
  }
  t.is(fds(), before);
  t.true(
    await kernel
      .openNamespace('/proc/self/ns/net')
      .then(({ namespace, isNode }) => (namespace.close(), isNode)),
  );
  await box.end();
});
