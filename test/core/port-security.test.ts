// Port security, compiled: what a container may send on each port, and who the other nodes are.
import test from 'ava';

import { parseAllowed } from '../../core/allowed-address.js';
import { compileFirewall } from '../../core/compile.js';
import {
  compileContainerPort,
  compileMember,
  compileNode,
  compileOwnBridge,
} from '../../core/port-security.js';
import { bridged, endpointOf, hostGw, leaseOf, membershipOf, overlay } from './records.js';

const texts = (pairs: readonly { from: { toString(): string }; to: { toString(): string } }[]): string[] =>
  pairs.map(({ from, to }) => `${from.toString()} ${to.toString()}`);

test('a container has all its addresses on each of its ports, and its MAC address and allowed ones there', (t) => {
  const blue = overlay({ name: 'blue', subnet: '10.100.0.0/16', subnet6: 'fd42:100::/48' });
  const one = endpointOf(blue, '10.100.1.2/24', {
    allowedAddresses: ['10.100.7.0/24', '10.100.7.9/32', 'fd42:9::/64'],
  });
  const other = endpointOf(overlay({ name: 'red', subnet: '10.101.0.0/16' }), '10.101.1.5/24');
  const { link, bounds } = compileContainerPort(membershipOf(blue), one, [one, other]);
  t.is(link, one.hostIfname);
  t.is(bounds?.mac, one.mac);
  t.true(bounds?.ips.includes('10.100.1.2'));
  t.true(bounds?.ips.includes('10.101.1.5'));
  t.deepEqual(bounds?.allowed.map(String), ['10.100.7.0/24', 'fd42:9::/64']);
  t.is(bounds?.anyIp6, undefined);
  t.is(bounds?.lan, undefined);
});

test('a LAN’s routers give IPv6 addresses; a network without port security binds nothing', (t) => {
  const lan = bridged('bridge', { parent: 'eth1' });
  const endpoint = endpointOf(lan, '198.51.100.7/24');
  t.like(compileContainerPort(membershipOf(lan), endpoint, [endpoint]).bounds, { anyIp6: true, lan: true });
  const alone = bridged('bridge');
  t.is(compileContainerPort(membershipOf(alone), endpoint, [endpoint]).bounds?.anyIp6, undefined);
  const open = { ...lan, portSecurity: false as const };
  t.deepEqual(compileContainerPort(membershipOf(open), endpoint, [endpoint]), { link: endpoint.hostIfname });
});

test('a member sends the VNI of its network; without a tunnel, from its lease and its node', (t) => {
  const blue = overlay({ name: 'blue', subnet: '10.100.0.0/16', vni: 4097 });
  const node = {
    ...{ name: 'n2', instance: 'i', publicIp: '203.0.113.9', underlayIp: '192.0.2.2' },
    ...{ version: '', startedAt: '' },
  };
  const member = compileMember(membershipOf(blue), leaseOf(blue, 2), node, []);
  t.deepEqual(member.vnis, [{ port: 8472, vni: 4097 }]);
  t.true(['192.0.2.2', '203.0.113.9'].every((ip) => member.addresses.includes(ip)));
  t.deepEqual(member.plain, []);
  t.deepEqual(compileNode(node).addresses, ['203.0.113.9', '192.0.2.2']);

  const gw = { ...hostGw({ name: 'gw', subnet: '10.110.0.0/16' }), routes: ['blue'] };
  const plain = compileMember(membershipOf(gw), leaseOf(gw, 2), undefined, [
    membershipOf(gw),
    membershipOf(blue),
  ]);
  t.deepEqual(plain.vnis, []);
  const { subnet } = leaseOf(gw, 2);
  for (const pair of [`${subnet.toString()} 10.110.0.0/16`, '192.0.2.2/32 10.100.0.0/16'])
    t.true(texts(plain.plain).includes(pair), texts(plain.plain).join());
  t.deepEqual(texts(compileOwnBridge(membershipOf(blue), []).plain), [
    `${membershipOf(blue).lease.subnet.toString()} 10.100.0.0/16`,
  ]);
});

test('a network is open to the outside by a setting, or because its containers are seen as themselves', (t) => {
  const isOpen = (fields: Parameters<typeof overlay>[0]): boolean =>
    compileFirewall([membershipOf(overlay(fields))]).networks[0]?.directAccess === true;
  t.false(isOpen({}));
  t.true(isOpen({ directAccess: true }));
  t.true(isOpen({ masquerade: false }));
  t.false(isOpen({ masquerade: false, directAccess: false }));
  t.false(isOpen({ internal: true, directAccess: true }));
});

test('allowed addresses are prefixes or single addresses, and not too many', (t) => {
  t.deepEqual(parseAllowed(['10.0.0.9', 'fd00::1', '10.0.0.9/32', '0.0.0.0/0']), [
    '10.0.0.9/32',
    'fd00::1/128',
    '0.0.0.0/0',
  ]);
  t.throws(() => parseAllowed(['10.0.0.9/8']), { message: /allowed-address: .*host bits/ });
  t.throws(() => parseAllowed(['web']), { message: /allowed-address/ });
  t.throws(() => parseAllowed(Array.from({ length: 65 }, (_, i) => `10.0.0.${i}`)), { message: /too many/ });
});
