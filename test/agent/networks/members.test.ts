// Who the other nodes are for the firewall, and which changes of the store concern that.
import test from 'ava';

import { leaseOf, overlay } from '../../core/records.js';
import { until } from '../../lab/wait.js';
import { pairOn } from './pair.js';

const elsewhere = overlay({ name: 'red', vni: 4098, subnet: '10.101.0.0/16' });

test('a node is known by its record, and a flanneld of another network by its lease', async (t) => {
  const { store, one } = await pairOn(t, overlay());
  const addresses = (): string[] =>
    [...(one.kernel.firewall.rules?.members?.values() ?? [])].flatMap((member) => member.addresses);
  const keys = (): string[] => [...(one.kernel.firewall.rules?.members?.keys() ?? [])];
  const record = (n: number) => ({
    ...{ name: `node${n}`, instance: `node${n}`, publicIp: `192.0.2.${n}`, version: '', startedAt: '' },
  });
  store.putNode(record(2));
  store.putNetwork(elsewhere);
  const { node: _node, instance: _instance, ...flanneld } = leaseOf(elsewhere, 9);
  store.putLease({ ...flanneld, etcdLease: '1' });
  await until('the flanneld is a member', () => addresses().includes(flanneld.publicIp.toString()));

  // Its node is known already.
  store.putLease({ ...leaseOf(elsewhere, 2), node: 'node2', etcdLease: '1' });
  // Its node is not known yet.
  store.putLease({ ...leaseOf(elsewhere, 8), node: 'node8', etcdLease: '1' });
  await until('the lease is a member', () => keys().some((key) => key.startsWith('lease red 10.101.8.')));
  t.false(keys().some((key) => key.startsWith('lease red 10.101.2.')));
  store.putNode(record(8));
  await until('the node is', () => keys().includes('node node8'));
  t.false(keys().some((key) => key.startsWith('lease red 10.101.8.')));
  t.true(addresses().includes('192.0.2.8'));
});
