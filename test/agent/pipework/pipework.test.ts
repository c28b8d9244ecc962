// pipework in the agent.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import type { Capability, ParentLink } from '../../../agent/kernel/kernel.js';
import { findHostInterface } from '../../../agent/pipework/host-interfaces.js';
import type { HostInterface } from '../../../core/attachment.js';
import type { WeftError } from '../../../core/errors.js';
import type { Membership } from '../../../core/membership.js';
import { ip } from '../../kernel/samples.js';
import { breakFolder, path, startNode, type TestNode } from '../node.js';

// Host interfaces of pipework: every kind, and every error with its reason.

const link = (name: string, rest: Partial<ParentLink> = {}): ParentLink => ({
  name,
  isBridge: false,
  filtersVlans: false,
  isEthernet: true,
  up: true,
  mac: '02:00:00:00:00:99',
  mtu: 1500,
  vlans: [],
  ...rest,
});

const LINKS = [
  link('eth0'),
  link('eth1', { mtu: 9000 }),
  link('eth2', { up: false }),
  link('eth3', { master: 'br0' }),
  link('eth4', { vlans: [{ name: 'eth4.100', vlan: 100 }] }),
  link('ib0', { isEthernet: false }),
  link('br0', { isBridge: true }),
  link('br9', { isBridge: true, filtersVlans: true }),
  link('wfep1'),
];

interface Asked {
  host: string;
  vlan?: number;
  force?: boolean;
}

function find(
  asked: Asked,
  {
    vlans = true,
    known = [],
    members = [],
  }: { vlans?: boolean; known?: HostInterface[]; members?: Membership[] } = {},
): Promise<HostInterface> {
  const filtering: Capability = {
    name: 'bridge-vlan-filtering',
    available: vlans,
    why: vlans ? '' : 'CONFIG_BRIDGE_VLAN_FILTERING is missing',
  };
  return findHostInterface(
    {
      kernel: {
        parentLink: (name) => Promise.resolve(LINKS.find((one) => one.name === name)),
        capabilities: () => [filtering],
      },
      underlay: () => ({ ip: ip('192.0.2.1'), mtu: 1400, link: 'eth0', onLink: [] }),
      memberships: () => members,
      known: new Map(known.map((hostInterface) => [hostInterface.name, hostInterface])),
    },
    asked,
  );
}

const nic = { kind: 'nic', name: 'eth1', mac: '02:00:00:00:00:99', mtu: 9000 } as const;
const bridge = { kind: 'bridge', mtu: 1400, made: true } as const;

test('each name gives its kind of host interface', async (t) => {
  t.deepEqual(await find({ host: 'br0' }), {
    kind: 'bridge',
    name: 'br0',
    mtu: 1500,
    vlans: false,
    made: false,
  });
  t.like(await find({ host: 'br9', vlan: 100 }), { vlans: true, made: false });
  t.deepEqual(await find({ host: 'br1' }), { ...bridge, name: 'br1', vlans: false });
  t.deepEqual(await find({ host: 'br1', vlan: 100 }), { ...bridge, name: 'br1', vlans: true });
  t.deepEqual(await find({ host: 'ovs0' }), { ...bridge, name: 'ovs0', vlans: true });
  t.deepEqual(await find({ host: 'eth1' }), { ...nic, native: 4094 });
  t.deepEqual(
    await find({ host: 'eth1' }, { vlans: false }),
    nic,
    'without VLANs, where the kernel has none',
  );
  t.like(await find({ host: 'eth0', force: true }), { kind: 'nic', name: 'eth0' });
  t.like(await find({ host: 'eth4', vlan: 200 }), { kind: 'nic', name: 'eth4' });
});

test('an earlier attachment or a network on the interface decides', async (t) => {
  const earlier: HostInterface = { ...bridge, name: 'br1', vlans: false };
  t.is(await find({ host: 'br1', vlan: 100 }, { known: [earlier] }), earlier);
  const member = (parent: Membership['parent']): Membership => ({ parent }) as Membership;
  const plain = member({ name: 'eth1', isBridge: false, mac: '', mtu: 9000 });
  t.deepEqual(
    await find({ host: 'eth1' }, { members: [plain] }),
    nic,
    'as the network has it: without VLANs',
  );
  const aware = member({ name: 'eth1', isBridge: false, mac: '', mtu: 9000, native: 4000 });
  t.deepEqual(await find({ host: 'eth1' }, { members: [aware] }), { ...nic, native: 4000 });
});

const refused: [asked: Asked, reason: RegExp, vlans?: boolean][] = [
  [{ host: 'eth0' }, /eth0 carries the underlay.*--force/s],
  [{ host: 'eth2' }, /eth2 is down.*ip link set eth2 up/s],
  [{ host: 'eth3' }, /eth3 is itself a port of br0.*Give br0/s],
  [{ host: 'eth4', vlan: 100 }, /VLAN 100, eth4\.100, which would take its frames/],
  [{ host: 'ib0' }, /ib0 is no Ethernet interface/],
  [{ host: 'wfep1' }, /a link of weft's own/],
  [{ host: 'nonsense' }, /no interface nonsense.*begins with br or ovs/s],
  [{ host: 'ovs0' }, /ovs0 cannot have VLANs on this host: CONFIG_BRIDGE_VLAN_FILTERING is missing/, false],
  [{ host: 'br1', vlan: 100 }, /br1 cannot have VLANs/, false],
  [{ host: 'eth1', vlan: 100 }, /eth1 cannot have VLANs/, false],
];

for (const [asked, reason, vlans = true] of refused) {
  test(`an error for ${asked.host}${asked.vlan === undefined ? '' : ` @${asked.vlan}`}`, async (t) => {
    const error = await t.throwsAsync<WeftError>(find(asked, { vlans }));
    t.regex(`${error?.message}\n${error?.next}`, reason);
  });
}

// A failed attachment leaves its container unchanged.
//
// That includes a default route of another program.

const UNOWNED = 'route default via 172.17.0.1 dev eth0 (unowned)';

/** A container with another program's network. */
function container({ kernel }: TestNode): void {
  const hands = kernel.addContainer(path('c1'));
  hands.changeLink('lo', {});
  hands.addLink('eth0', { kind: 'link', type: 'peer', name: 'eth0', mac: '02:42:ac:11:00:02', mtu: 1500 });
  hands.put({ kind: 'address', link: 'eth0', address: '172.17.0.2/16' });
  hands.put({ kind: 'route', to: '0.0.0.0/0', via: '172.17.0.1', link: 'eth0' });
}

const attachment = { host: 'br1', guest: `netns:${path('c1')}`, ifname: 'eth1' };
const withGateway = { ...attachment, address: '10.9.0.2/24', gateway: '10.9.0.1' };

test('an attachment that cannot be saved leaves the default route unchanged', async (t) => {
  const node = await startNode(t);
  container(node);
  const before = node.kernel.dump(path('c1'));
  t.true(before.includes(UNOWNED));
  const repair = breakFolder(node, 'wires');
  const refused = await t.throwsAsync<WeftError>(node.attachments.attach(withGateway));
  t.true(refused.message.includes(node.stateDir));
  t.true(refused.next?.includes('writable'));
  t.is(node.kernel.dump(path('c1')), before);
  t.deepEqual(readdirSync(join(node.stateDir, 'wire-places')), [], 'no host interface is prepared');
  repair();
  await node.attachments.attach(withGateway);
  t.true(node.kernel.has('route default via 10.9.0.1 dev eth1', path('c1')));
});

test('an address is of one container in each VLAN of a bridge, the untagged one included', async (t) => {
  const node = await startNode(t);
  for (const name of ['c1', 'c2']) node.kernel.addContainer(path(name)).changeLink('lo', {});
  const on = (guest: string, ifname: string, vlan?: number, force?: true): Promise<unknown> =>
    node.attachments.attach({
      ...{ host: 'ovs0', guest: `netns:${path(guest)}`, ifname, address: '10.9.0.2/24' },
      ...(vlan === undefined ? {} : { vlan }),
      ...(force === undefined ? {} : { force }),
    });
  await on('c1', 'eth1');
  await on('c1', 'eth2', 100);
  await on('c2', 'eth3', 200);
  const taken = (where: string): { code: string; message: string } => ({
    code: 'ALREADY_EXISTS',
    message: `pipework: 10.9.0.2 is the address of netns:${path('c1')} on ${where}`,
  });
  await t.throwsAsync(on('c2', 'eth1'), taken('ovs0'));
  await t.throwsAsync(on('c2', 'eth1', 1), taken('ovs0, VLAN 1'));
  await t.throwsAsync(on('c2', 'eth1', 100), taken('ovs0, VLAN 100'));
  t.is(node.attachments.list().length, 3);
  await on('c2', 'eth1', 1, true);
  t.is(node.attachments.list().length, 4);
});

test('an attachment whose default route the kernel rejects is not saved', async (t) => {
  const node = await startNode(t);
  container(node);
  const before = node.kernel.dump(path('c1'));
  node.kernel.failSteps((step) => step.do === 'put' && step.object.kind === 'route');
  await t.throwsAsync(node.attachments.attach(withGateway), { message: /refused the default route/ });
  t.is(node.kernel.dump(path('c1')), before);
  t.deepEqual(readdirSync(join(node.stateDir, 'wires')), []);
  t.deepEqual(node.attachments.list(), []);
});
