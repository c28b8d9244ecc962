// Attachments as kernel objects, for each host interface and option of pipework.
import test from 'ava';

import { plan, assume } from '../../core/plan.js';
import type { WeftError } from '../../core/errors.js';
import {
  checkVlan,
  compileHostInterface,
  compileAttachment,
  differences,
  attachmentMac,
  type HostInterface,
  type Attachment,
} from '../../core/attachment.js';

const plain: HostInterface = { kind: 'bridge', name: 'br1', mtu: 1500, vlans: false, made: true };
const ovs: HostInterface = { kind: 'bridge', name: 'ovs0', mtu: 1500, vlans: true, made: true };
const theirs: HostInterface = { kind: 'bridge', name: 'br0', mtu: 9000, vlans: true, made: false };
const nic: HostInterface = { kind: 'nic', name: 'eth1', mac: '02:00:00:00:00:99', mtu: 1500, native: 4094 };

const attachment = (hostInterface: HostInterface, rest: Partial<Attachment> = {}): Attachment => ({
  id: '0123456789abcdef',
  hostInterface,
  name: 'c1',
  target: 'netns:/run/netns/c1',
  sandbox: { path: '/run/netns/c1', cookie: '1', bootId: 'b' },
  ifname: 'eth1',
  hostIfname: 'wfep0123456789a',
  mac: '02:00:00:00:00:01',
  address: '10.1.1.1/24',
  ...rest,
});

/** The host's end of the pair. */
const end = (of: Attachment): unknown => compileAttachment(of).host[0];

test('the port is in the requested VLAN, or in that of untagged frames', (t) => {
  for (const [hostInterface, vlan, master, port] of [
    [plain, undefined, 'br1', undefined],
    [ovs, 100, 'ovs0', 100],
    [ovs, undefined, 'ovs0', 1],
    [theirs, 100, 'br0', 100],
    // It depends on whether weft made the bridge.
    [theirs, undefined, 'br0', undefined],
    [nic, 100, 'wfp-eth1', 100],
    [nic, undefined, 'wfp-eth1', 4094],
  ] as const) {
    const made = end(attachment(hostInterface, vlan === undefined ? {} : { vlan }));
    t.like(made, { type: 'veth', master, mtu: hostInterface.mtu, peer: { name: 'eth1' } });
    t.is((made as { vlan?: number }).vlan, port, `${hostInterface.name} @${vlan}`);
  }
});

test('a VLAN leaves through the NIC with its tag', (t) => {
  t.deepEqual(compileAttachment(attachment(nic, { vlan: 100 })).host.slice(1), [
    { kind: 'vlan', link: 'eth1', bridge: 'wfp-eth1', vlan: 100 },
  ]);
  t.is(compileAttachment(attachment(nic)).host.length, 1);
});

test('a host interface compiles to its own objects, and to none for an unowned bridge', (t) => {
  t.deepEqual(compileHostInterface(theirs), []);
  t.like(compileHostInterface(ovs)[0], {
    type: 'bridge',
    name: 'ovs0',
    vlans: true,
    alias: 'weft pipework ovs0',
  });
  t.false('vlans' in (compileHostInterface(plain)[0] ?? {}));
  t.deepEqual(compileHostInterface(nic).slice(1), [
    { kind: 'port', link: 'eth1', master: 'wfp-eth1' },
    { kind: 'vlan', link: 'wfp-eth1', bridge: 'wfp-eth1', vlan: 4094, untagged: true },
    { kind: 'vlan', link: 'eth1', bridge: 'wfp-eth1', vlan: 4094, untagged: true },
  ]);
});

test('inside: the address and the default route', (t) => {
  const inside = (rest: Partial<Attachment>): unknown[] =>
    compileAttachment(attachment(plain, rest)).container.slice(2);
  const address = { kind: 'address', link: 'eth1', address: '10.1.1.1/24' };
  const out = { kind: 'route', to: '0.0.0.0/0', link: 'eth1' };
  t.deepEqual(inside({}), [address]);
  t.deepEqual(inside({ gateway: '10.1.1.254' }), [address, { ...out, via: '10.1.1.254' }]);
  t.deepEqual(inside({ gateway: '192.0.2.1' }), [address, { ...out, via: '192.0.2.1', onlink: true }]);
  t.deepEqual(inside({ address: '2001:db8::5/64', gateway: '2001:db8::1' }), [
    { kind: 'sysctl', path: 'net/ipv6/conf/eth1/disable_ipv6', value: '0' },
    { ...address, address: '2001:db8::5/64' },
    { ...out, to: '::/0', via: '2001:db8::1' },
  ]);
  const { address: _none, ...without } = attachment(plain);
  t.deepEqual(compileAttachment(without).container.slice(2), []);
});

test('an attachment is planned in order, and then nothing is left to do', (t) => {
  for (const hostInterface of [plain, ovs, nic]) {
    const objects = [
      ...compileHostInterface(hostInterface),
      ...compileAttachment(attachment(hostInterface)).host,
    ];
    const made = plan(assume([]), objects, { prune: true });
    t.deepEqual(made.conflicts, []);
    t.is(made.steps.length, objects.length);
    t.deepEqual(plan(assume(objects), objects, { prune: true }).steps, []);
  }
});

test('VLANs are refused where the bridge cannot have them', (t) => {
  t.notThrows(() => checkVlan(plain, undefined));
  for (const hostInterface of [ovs, theirs, nic]) t.notThrows(() => checkVlan(hostInterface, 100));
  const errorOf = (hostInterface: HostInterface, vlan: number): string =>
    t.throws<WeftError>(() => checkVlan(hostInterface, vlan))?.message ?? '';
  t.regex(errorOf(plain, 100), /br1 does not tell VLANs apart/);
  t.regex(errorOf({ kind: 'nic', name: 'eth1', mac: '', mtu: 1500 }, 100), /eth1 does not tell/);
  t.regex(errorOf(nic, 4094), /VLAN 4094 of eth1 stands for its frames without a tag/);
});

test('a repeated call has no differences; another one lists them', (t) => {
  const call = {
    do: 'attach',
    host: { name: 'br1' },
    guest: 'c1',
    ifname: 'eth1',
    address: '10.1.1.1/24',
  } as const;
  t.deepEqual(differences(call, 'br1', attachment(plain)), []);
  t.deepEqual(differences({ ...call, mac: '02:00:00:00:00:01' }, 'br1', attachment(plain)), []);
  t.deepEqual(differences({ ...call, vlan: 5, hostIfname: 'web0' }, 'br1', attachment(plain)), [
    'its -l is wfep0123456789a, not web0',
    'its vlan is none, not 5',
  ]);
  t.deepEqual(differences(call, 'br2', attachment(plain)), ['its host interface is br1, not br2']);
});

test('a MAC address that is not given derives from the address or the attachment', (t) => {
  t.is(attachmentMac({ mac: '02:00:00:00:00:05', address: '10.1.1.1/24' }, 'id'), '02:00:00:00:00:05');
  t.is(attachmentMac({ address: '10.1.1.1/24' }, 'one'), attachmentMac({ address: '10.1.1.1/8' }, 'two'));
  t.not(attachmentMac({}, 'one'), attachmentMac({}, 'two'));
});
