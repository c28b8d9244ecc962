// What is somebody else's, on and under the names that weft uses: it is seen, told of, and left as it is.
import './private.js';

import { execFileSync } from 'node:child_process';

import test from 'ava';

import { vlanObjects, type KernelLink } from '../../agent/kernel/decode.js';
import type { Kernel } from '../../agent/kernel/kernel.js';
import { openKernel } from '../../agent/kernel/linux.js';
import type { PortJournal, SavedPort } from '../../agent/kernel/ports.js';
import type { KernelObject } from '../../core/objects.js';
import { plan, type Plan } from '../../core/plan.js';
import { compilePlace } from '../../core/wire.js';
import { noFirewall } from './samples.js';

const sh = (command: string): string => execFileSync('sh', ['-c', command], { encoding: 'utf8' });

const saved = new Map<string, SavedPort>();
const journal: PortJournal = {
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
  kernel = await openKernel({ firewall: noFirewall, journal });
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

const made = compilePlace({ kind: 'bridge', name: 'br1', mtu: 1500, vlans: false, made: true });
const nic = compilePlace({ kind: 'nic', name: 'eth1', mac: '02:00:00:00:00:01', mtu: 1500 });
const withTap = (bridge: string): string =>
  sh(`ip link add tap0 type veth peer name guest0; ip link set tap0 up master ${bridge}`);

test.serial('a port that others plugged into a bridge of weft’s stays, and moves nothing', async (t) => {
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

test.serial(
  'beside it the NIC is still weft’s port, and is found where nothing is written down',
  async (t) => {
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
  },
);

test('VLANs of a port are weft’s where the port is', (t) => {
  const bridge = { index: 2, name: 'wfp-eth1', kind: 'bridge', owned: true } as KernelLink;
  const vlansOf = (name: string): unknown[] => {
    const port = { index: 3, name, kind: '', masterIndex: 2, owned: false } as KernelLink;
    return vlanObjects(port, [{ vlan: 7, pvid: false, untagged: false }], () => bridge);
  };
  t.deepEqual(vlansOf('eth1'), [{ kind: 'vlan', link: 'eth1', bridge: 'wfp-eth1', vlan: 7 }]);
  t.deepEqual(vlansOf('tap0'), []);
});
