// Where a node answers names, by its networks alone.
import test from 'ava';

import { listenedAt } from '../../../agent/dns/dns.js';
import { bridged, membershipOf, overlay } from '../../core/records.js';

test('a node answers at its gateways, and at 169.254.53.53 where no other host is on the link', (t) => {
  const gateway = '198.51.100.1';
  const trunk = membershipOf(bridged('vlan', { parent: 'eth1', gateway, gatewayNode: 'n1' }));
  const elsewhere = membershipOf(bridged('vlan', { parent: 'eth1', gateway, gatewayNode: 'n2' }));
  const at = (...of: (typeof trunk)[]): string[] => [...listenedAt(of).keys()];
  t.deepEqual(at(membershipOf(overlay())), ['10.100.1.1', '169.254.53.53']);
  t.deepEqual(at(trunk), [gateway]);
  t.deepEqual(at(elsewhere), []);
  t.deepEqual(at(trunk, membershipOf(overlay())), [gateway, '10.100.1.1', '169.254.53.53']);
});
