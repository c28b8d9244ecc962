// Unowned objects under weft's names: detected, reported, left alone.
import { container, sh } from './private.js';

import test from 'ava';

import { vlanObjects, type KernelLink } from '../../agent/kernel/objects/index.js';
import type { Kernel } from '../../agent/kernel/kernel.js';
import { openKernel } from '../../agent/kernel/linux.js';
import type { InterfaceLoan, InterfaceLoans } from '../../agent/kernel/bridge-ports.js';
import { compileEndpoint, compileNetwork, compilePeer } from '../../core/compile.js';
import type { KernelObject } from '../../core/objects/index.js';
import { assume, plan, type Plan, type Step } from '../../core/plan.js';
import { compileHostInterface } from '../../core/attachment.js';
import { endpoint, lease, membership, network, noFirewall } from './samples.js';

const saved = new Map<string, InterfaceLoan>();
const loans: InterfaceLoans = {
  list: () => [...saved.values()],
  get: (link) => saved.get(link),
  put: (entry) => void saved.set(entry.link, entry),
  delete: (link) => void saved.delete(link),
};

let kernel: Kernel;
test.before(async () => {
  sh(
    'ip link set lo up; ip link add eth1 type veth peer name far1; ip link set eth1 up; ip link set far1 up',
  );
  sh('ip addr add 192.0.2.1/24 dev eth1; ip route add default via 192.0.2.254');
  kernel = await openKernel({ firewall: noFirewall, loans });
});
test.afterEach.always(async () => {
  await reach([]);
});
test.after.always(() => kernel.close());

const planTo = async (desired: readonly KernelObject[]): Promise<Plan> =>
  plan(await kernel.node.observe([]), desired, { prune: true });

async function reach(desired: readonly KernelObject[]): Promise<void> {
  const failures = await kernel.node.apply((await planTo(desired)).steps);
  const { steps: left } = await planTo(desired);
  if (failures.length + left.length > 0) throw new Error(JSON.stringify({ failures, left }, undefined, 1));
}

const made = compileHostInterface({ kind: 'bridge', name: 'br1', mtu: 1500, vlans: false, made: true });
const nic = compileHostInterface({ kind: 'nic', name: 'eth1', mac: '02:00:00:00:00:01', mtu: 1500 });
const withTap = (bridge: string): string =>
  sh(`ip link add tap0 type veth peer name guest0; ip link set tap0 up master ${bridge}`);

test.serial('an unowned port of a bridge of weft’s stays, and moves nothing', async (t) => {
  await reach(made);
  sh('ip addr add 192.168.1.254/24 dev br1');
  withTap('br1');
  const before = sh('ip addr show dev br1; ip -o link show master br1');
  t.deepEqual(await planTo(made), { steps: [], conflicts: [] });
  const port = { kind: 'port', link: 'tap0', master: 'br1' } as const;
  t.deepEqual(await kernel.node.apply([{ do: 'delete', object: port }]), []);
  t.is(sh('ip addr show dev br1; ip -o link show master br1'), before);
  t.is(sh('ip -o -4 addr show dev tap0'), '');
  sh('ip link del tap0');
});

test.serial('beside it the NIC is still weft’s port, and is found without its loan', async (t) => {
  const before = sh('ip -o -4 addr show dev eth1 | sed "s/ *valid.*//"; ip route show default');
  await reach(nic);
  withTap('wfp-eth1');
  t.deepEqual(await planTo(nic), { steps: [], conflicts: [] });
  t.regex(sh('ip -o -4 addr show dev wfp-eth1'), /192\.0\.2\.1\/24/);
  const [underlay] = await kernel.underlayLinks();
  t.is(underlay?.port, 'eth1');
  saved.clear();
  t.deepEqual(await planTo(nic), { steps: [], conflicts: [] });
  await reach([]);
  t.is(sh('ip -o -4 addr show dev eth1 | sed "s/ *valid.*//"; ip route show default'), before);
  t.is(sh('ip -o -4 addr show dev tap0'), '');
  sh('ip link del tap0');
});

test.serial('a NIC that was renamed while a port gets its addresses back', async (t) => {
  const state = (link: string): string =>
    sh(`ip -o -4 addr show dev ${link} | sed "s/.*inet/inet/; s/ scope.*//"; ip route show default`);
  const before = state('eth1').replace('eth1', 'lan1');
  await reach(nic);
  sh('ip link set eth1 down; ip link set eth1 name lan1; ip link set lan1 up');
  t.is(state('wfp-eth1').replace('wfp-eth1', 'lan1'), before);
  await reach([]);
  t.is(state('lan1'), before);
  sh('ip link set lan1 down; ip link set lan1 name eth1; ip link set eth1 up');
  sh('ip route replace default via 192.0.2.254');
});

const blue = membership(network('blue', 4777, 100, true));
const ofBlue = [...compileNetwork(blue), ...compilePeer(blue, lease(blue.network, 2))];
/** Steps of an added, changed or removed record, which are made without observing the kernel. */
const delta = (from: readonly KernelObject[], to: readonly KernelObject[]): Step[] =>
  plan(assume(from), to, { prune: true }).steps;

const described = (names: string): string =>
  sh(
    `for n in ${names}; do ip link show $n; ip addr show $n | sed "s| tentative||"; ip neigh show dev $n nud permanent; ` +
      'cd /proc/sys/net/ipv4/conf/$n; grep . forwarding route_localnet rp_filter; done',
  );

test.serial('under the name of a network’s bridge: nothing is put on it, and it stays', async (t) => {
  sh('sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1');
  sh('ip link add wfbr4777 type bridge; ip addr add 10.100.1.1/24 dev wfbr4777');
  const before = described('wfbr4777');
  const failures = await kernel.node.apply(delta([], ofBlue));
  t.is(described('wfbr4777'), before);
  t.true(failures.length > 0 && failures.every(({ message }) => message.includes('EEXIST')));
  t.true(failures.slice(1).every(({ message }) => message.includes('wfbr4777')));

  const box = await container();
  const { host } = compileEndpoint(blue, endpoint(blue, '0000000000000001', 2, box.path));
  const { namespace } = await kernel.openNamespace(box.path);
  const peers = new Map([['wfep00000000000', namespace]]);
  const [refused] = await kernel.node.apply(delta([], host), peers);
  namespace.close();
  await box.end();
  t.is(refused?.step.do, 'create-link');
  t.notRegex(sh('ip -o link'), /wfep/);

  const wider = ofBlue.map((object) => ('mtu' in object ? { ...object, mtu: 1400 } : object));
  await kernel.node.apply(delta(ofBlue, wider));
  const [kept] = await kernel.node.apply(delta(wider, []));
  t.deepEqual(kept?.step, { do: 'delete-link', name: 'wfbr4777' });
  t.is(described('wfbr4777'), before);
  t.notRegex(sh('ip -o link; ip route; ip -6 route'), /wfvx|119/);
  sh('ip link del wfbr4777');
});

test.serial('under the name of a bridge that pipework made once: it stays', async (t) => {
  sh('ip link add br1 type bridge; ip addr add 192.168.1.254/24 dev br1; ip link set br1 up');
  const before = described('br1');
  t.deepEqual(
    (await kernel.node.apply(delta([], made))).map(({ errno }) => errno),
    ['EEXIST'],
  );
  t.regex((await kernel.node.apply(delta(made, [])))[0]?.message ?? '', /br1 .*weft did not make it/);
  t.is(described('br1'), before);
  sh('ip link del br1');
});

test.serial('under the name of a NIC’s bridge: the NIC keeps its addresses', async (t) => {
  sh('ip link add wfp-eth1 type bridge; ip addr add 198.51.100.1/24 dev wfp-eth1');
  const before = sh('ip -o -4 addr | sed "s/ *valid.*//"; ip route show default');
  await kernel.node.apply(delta([], nic));
  await kernel.node.apply(delta(nic, []));
  t.is(sh('ip -o -4 addr | sed "s/ *valid.*//"; ip route show default'), before);
  sh('ip link del wfp-eth1');
});

test.serial('a link that weft began to make under a name of the user’s is rolled back', async (t) => {
  sh('ip link add web1 group 119 type veth peer name guest1');
  t.deepEqual(await kernel.node.apply([{ do: 'delete-link', name: 'web1' }]), []);
  t.notRegex(sh('ip -o link'), /web1/);
});

test('VLANs of a port are weft’s if the port is', (t) => {
  const bridge = { index: 2, name: 'wfp-eth1', kind: 'bridge', owned: true } as KernelLink;
  const vlansOf = (name: string): unknown[] => {
    const port = { index: 3, name, kind: '', masterIndex: 2, owned: false } as KernelLink;
    return vlanObjects(port, [{ vlan: 7, pvid: false, untagged: false }], () => bridge);
  };
  t.deepEqual(vlansOf('eth1'), [{ kind: 'vlan', link: 'eth1', bridge: 'wfp-eth1', vlan: 7 }]);
  t.deepEqual(vlansOf('tap0'), []);
});
