// Which links of a node a network may leave through.
import test from 'ava';

import { WeftError } from '../../../core/errors.js';
import { chooseParent } from '../../../agent/networks/parent-link.js';
import type { ParentLink } from '../../../agent/kernel/kernel.js';
import { bridged } from '../../core/records.js';

const NIC: ParentLink = {
  name: 'eth1',
  isBridge: false,
  filtersVlans: false,
  isEthernet: true,
  up: true,
  mac: '06:00:00:00:00:01',
  mtu: 9000,
  vlans: [],
};

const lan = bridged('bridge', { parent: 'eth1' });
const vlan = bridged('vlan', { parent: 'eth1' });

const REFUSED: [string, typeof lan, Partial<ParentLink> | undefined, string, RegExp][] = [
  ['missing', lan, undefined, 'eth0', /NOT_FOUND .*no interface eth1/],
  ['down', lan, { up: false }, 'eth0', /eth1 is down/],
  ['a port', lan, { master: 'br0' }, 'eth0', /eth1 is itself a port of br0/],
  ['a tunnel', lan, { isEthernet: false }, 'eth0', /no Ethernet/],
  ['the underlay', lan, {}, 'eth1', /carries the underlay/],
  ['the underlay, moved', lan, { master: 'wfp-eth1' }, 'wfp-eth1', /carries the underlay/],
  ['a bridge of others', vlan, { isBridge: true }, 'eth0', /does not tell VLANs apart/],
  [
    'a VLAN’s own link',
    vlan,
    { vlans: [{ name: 'eth1.100', vlan: 100 }] },
    'eth0',
    /eth1\.100, which would take/,
  ],
];
for (const [what, network, link, underlay, words] of REFUSED) {
  test(`refused as a parent: ${what}`, (t) => {
    const error = t.throws(() => chooseParent(network, link && { ...NIC, ...link }, { link: underlay }), {
      instanceOf: WeftError,
    });
    t.regex(`${error?.code} ${error?.message}`, words);
    t.truthy(error?.next);
  });
}

test('what is taken, and which VLAN stands for frames without a tag', (t) => {
  const choose = (network: typeof lan, link: Partial<ParentLink> = {}) =>
    chooseParent(network, { ...NIC, ...link }, { link: 'eth0' });
  t.deepEqual(choose(lan), { name: 'eth1', isBridge: false, mac: NIC.mac, mtu: 9000 });
  t.is(choose(vlan).native, 4094);
  t.is(
    choose(bridged('vlan', { parent: 'eth1', vlan: 4094, allowVlan: [{ first: 4000, last: 4093 }] })).native,
    3999,
  );
  t.is(
    choose(vlan, { isBridge: true, filtersVlans: true }).native,
    undefined,
    'others see to their own bridge',
  );
  t.false(choose(lan, { master: 'wfp-eth1' }).isBridge, 'again, after a restart');
  t.notThrows(() => chooseParent(bridged('bridge', { parent: 'eth1', force: true }), NIC, { link: 'eth1' }));
});
