// Items of the firewall for other nodes: the same object while nothing that it is made of has changed.
import test from 'ava';

import { FirewallMembers } from '../../../agent/networks/firewall-members.js';
import { compileMember, compileNode, compileStranger } from '../../../core/port-security.js';
import { hostGw, leaseOf, membershipOf, overlay } from '../../core/records.js';

const node = {
  ...{ name: 'n2', instance: 'i', publicIp: '203.0.113.9', underlayIp: '192.0.2.2' },
  ...{ version: '', startedAt: '' },
};

test('a member is compiled anew when its node, its network or the networks of this node change', (t) => {
  const compiled = new FirewallMembers();
  const gw = hostGw({ name: 'gw', subnet: '10.110.0.0/16' });
  const blue = overlay({ name: 'blue', subnet: '10.100.0.0/16' });
  const [own, lease] = [membershipOf(gw), leaseOf(gw, 2)];
  const first = compiled.member(own, lease, node, [own]);
  t.deepEqual(first, compileMember(own, lease, node, [own]));
  t.is(compiled.member(own, lease, node, [own]), first);

  const moved = { ...node, underlayIp: '192.0.2.3' };
  t.true(compiled.member(own, lease, moved, [own]).addresses.includes('192.0.2.3'));
  t.false(compiled.member(own, lease, undefined, [own]).addresses.includes('192.0.2.3'));

  const routed = membershipOf({ ...gw, routes: ['blue'] });
  const mine = [routed, membershipOf(blue)];
  const wider = compiled.member(routed, lease, node, mine);
  t.deepEqual(wider, compileMember(routed, lease, node, mine));
  t.true(wider.plain.length > first.plain.length);
  t.is(compiled.member(routed, lease, node, [...mine]), wider);
});

test('nodes, and leases of networks that this node is not on, are compiled once', (t) => {
  const compiled = new FirewallMembers();
  const lease = leaseOf(overlay({}), 2);
  t.is(compiled.node(node), compiled.node(node));
  t.deepEqual(compiled.node(node), compileNode(node));
  t.is(compiled.stranger(lease), compiled.stranger(lease));
  t.deepEqual(compiled.stranger(lease), compileStranger(lease));
});
