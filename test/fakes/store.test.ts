// The fake store keeps the contract that the controller's tests rely on.
import test from 'ava';

import { IpNetwork } from '../../core/address.js';
import type { NetworkSpec } from '../../core/network.js';
import { node } from '../controller/records.js';
import { FakeStore } from './store.js';

const spec = (name: string, subnet: string, more: Partial<NetworkSpec> = {}): NetworkSpec => ({
  name,
  subnet: IpNetwork.parse(subnet),
  ...more,
});

test('a dry run refuses what a creation refuses, in the same words, and writes nothing', async (t) => {
  const store = new FakeStore();
  store.putNode(node('n1', '192.0.2.1'));
  await store.createNetwork(spec('blue', '10.100.0.0/16', { vni: 100 }));
  await store.createNetwork(spec('v5', '10.101.0.0/16', { driver: 'vlan', vlan: 5 }));
  for (const [wanted, words] of [
    [spec('blue', '10.102.0.0/16'), /blue exists already/],
    [spec('two', '10.100.0.0/24'), /overlaps/],
    [spec('two', '192.0.2.0/24'), /192\.0\.2\.1/],
    [spec('two', '10.102.0.0/16', { vni: 100 }), /VNI 100/],
    [spec('two', '10.102.0.0/16', { driver: 'vlan', vlan: 5 }), /VLAN 5 is network v5/],
  ] as const) {
    const dry = t.throws(() => store.checkNetwork(wanted));
    t.regex(dry.message, words);
    t.is((await t.throwsAsync(store.createNetwork(wanted))).message, dry.message);
  }
  t.like(store.checkNetwork(spec('two', '10.102.0.0/16')), { name: 'two', vni: 0 });
  t.deepEqual([...store.view.networks.keys()], ['blue', 'v5']);
});
