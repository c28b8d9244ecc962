// Every registered kind of kernel object: its interface, and the laws of plan.
//
// The samples are total over the lists of kinds: a new kind does not compile before it has one here.
import test from 'ava';

import {
  describeObject,
  isRemovable,
  ITEM_KINDS,
  kindOf,
  LINK_KINDS,
  objectKey,
  PHASE,
  sameObject,
  type ItemName,
  type ItemOf,
  type KernelObject,
  type LinkOf,
  type LinkType,
} from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { otherOwner } from '../../agent/kernel/ownership.js';
import { lineOf } from '../fakes/lines.js';
import { sampleWorlds } from './worlds.js';

interface Sample<O> {
  object: O;
  key: string;
  described: string;
  order: number;
  /** The link that it lies on, and the bridge that it belongs to. */
  on?: string;
  bridge?: string;
  /** Different objects of the same key. */
  others: Partial<O>[];
  /** Those of them that the kernel cannot change a link into. */
  remade?: Partial<O>[];
}

const mac = '02:00:00:00:04:01';
const named = (name: string): { kind: 'link'; name: string; alias: string; mtu: number } => ({
  kind: 'link',
  name,
  alias: 'weft network blue',
  mtu: 1450,
});

const LINKS: { [T in LinkType]: Sample<LinkOf<T>> } = {
  bridge: {
    object: { ...named('wfbr1'), type: 'bridge', mac },
    key: 'link wfbr1',
    described: 'bridge wfbr1',
    order: PHASE.bridge,
    others: [{ mtu: 1400 }, { mac: '02:00:00:00:04:02' }, { alias: 'x' }],
    remade: [{ vlans: true }],
  },
  vxlan: {
    object: { ...named('wfvx1'), type: 'vxlan', mac, vni: 1, local: '192.0.2.1', port: 8472 },
    key: 'link wfvx1',
    described: 'vxlan wfvx1',
    order: PHASE.tunnel,
    others: [{ mtu: 1400 }, { mac: '02:00:00:00:04:02' }, { alias: 'x' }, { local: '192.0.2.2' }],
    remade: [{ vni: 2 }, { port: 4789 }, { local: '2001:db8::1' }],
  },
  wireguard: {
    object: { ...named('wfwg-blue'), type: 'wireguard' },
    key: 'link wfwg-blue',
    described: 'wireguard wfwg-blue',
    order: PHASE.tunnel,
    others: [{ mtu: 1400 }, { alias: 'x' }],
  },
  tun: {
    object: { ...named('wfud-blue'), type: 'tun' },
    key: 'link wfud-blue',
    described: 'tun wfud-blue',
    order: PHASE.tunnel,
    others: [{ mtu: 1400 }, { alias: 'x' }],
  },
  ipip: {
    object: { ...named('wfipip'), type: 'ipip', local: '192.0.2.1' },
    key: 'link wfipip',
    described: 'ipip wfipip',
    order: PHASE.tunnel,
    others: [{ mtu: 1400 }, { alias: 'x' }],
    remade: [{ local: '192.0.2.2' }, { remote: '192.0.2.3' }, { fou: 8285 }],
  },
  vlan: {
    object: { ...named('wfgw100'), type: 'vlan', base: 'wfvlan', vlan: 100 },
    key: 'link wfgw100',
    described: 'vlan wfgw100',
    order: PHASE.vlan,
    on: 'wfvlan',
    others: [{ mtu: 1400 }, { alias: 'x' }],
    remade: [{ vlan: 101 }, { base: 'wfp-eth1' }],
  },
  veth: {
    object: { ...named('wfep1'), type: 'veth', master: 'wfbr1', peer: { name: 'eth0', mac } },
    key: 'link wfep1',
    described: 'veth wfep1',
    order: PHASE.veth,
    bridge: 'wfbr1',
    others: [{ mtu: 1400 }, { alias: 'x' }, { master: 'wfbr2' }, { hairpin: true }],
  },
  peer: {
    object: { kind: 'link', type: 'peer', name: 'eth0', mac, mtu: 1450 },
    key: 'link eth0',
    described: 'peer eth0',
    order: PHASE.inside,
    others: [{ mtu: 1400 }, { mac: '02:00:00:00:04:02' }],
  },
  loopback: {
    object: { kind: 'link', type: 'loopback', name: 'lo' },
    key: 'link lo',
    described: 'loopback lo',
    order: PHASE.inside,
    others: [],
  },
};

const ITEMS: { [K in ItemName]: Sample<ItemOf<K>> } = {
  pump: {
    object: { kind: 'pump', link: 'wfud-blue', local: '192.0.2.1', port: 8285 },
    key: 'pump wfud-blue',
    described: 'pump of wfud-blue at UDP 192.0.2.1:8285',
    order: PHASE.tunnelKey,
    on: 'wfud-blue',
    others: [{ local: '192.0.2.2' }, { port: 8286 }, { fou: true }, { outdated: true }],
  },
  'pump-prefix': {
    object: { kind: 'pump-prefix', link: 'wfud-blue', to: '10.100.2.0/24', via: '192.0.2.2' },
    key: 'pump-prefix 10.100.2.0/24',
    described: 'prefix 10.100.2.0/24 of peer 192.0.2.2 dev wfud-blue',
    order: PHASE.tunnelPrefix,
    on: 'wfud-blue',
    others: [{ link: 'wfud-red' }, { via: '192.0.2.3' }],
  },
  address: {
    object: { kind: 'address', link: 'wfbr1', address: '10.100.1.1/24' },
    key: 'address wfbr1 10.100.1.1/24',
    described: 'address 10.100.1.1/24 dev wfbr1',
    order: PHASE.address,
    on: 'wfbr1',
    others: [],
  },
  route: {
    object: { kind: 'route', to: '10.100.2.0/24', link: 'wfvx1', via: '10.100.2.0', onlink: true },
    key: 'route 10.100.2.0/24',
    described: 'route 10.100.2.0/24 via 10.100.2.0 dev wfvx1',
    order: PHASE.route,
    on: 'wfvx1',
    others: [
      { link: 'wfvx2' },
      { via: '10.100.3.0' },
      { onlink: false },
      { src: '10.100.1.9' },
      { mtu: 1350 },
    ],
  },
  neighbour: {
    object: { kind: 'neighbour', link: 'wfvx1', ip: '10.100.2.0', mac },
    key: 'neighbour wfvx1 10.100.2.0',
    described: `neighbour 10.100.2.0 lladdr ${mac} dev wfvx1`,
    order: PHASE.neighbour,
    on: 'wfvx1',
    others: [{ mac: '02:00:00:00:04:02' }],
  },
  proxy: {
    object: { kind: 'proxy', link: 'wfbr1', ip: '10.100.1.9' },
    key: 'proxy wfbr1 10.100.1.9',
    described: 'proxy neighbour 10.100.1.9 dev wfbr1',
    order: PHASE.proxy,
    on: 'wfbr1',
    others: [],
  },
  fdb: {
    object: { kind: 'fdb', link: 'wfvx1', mac, dst: '192.0.2.2' },
    key: `fdb wfvx1 ${mac}`,
    described: `fdb ${mac} dst 192.0.2.2 dev wfvx1`,
    order: PHASE.fdb,
    on: 'wfvx1',
    others: [{ dst: '192.0.2.3' }],
  },
  'port-mac': {
    object: { kind: 'port-mac', link: 'wfepc1', bridge: 'wfbr1', mac },
    key: `port-mac wfepc1 ${mac}`,
    described: `fdb ${mac} dev wfepc1 master sticky static`,
    order: PHASE.fdb,
    on: 'wfepc1',
    bridge: 'wfbr1',
    others: [{ bridge: 'wfbr2' }],
  },
  'wireguard-key': {
    object: { kind: 'wireguard-key', link: 'wfwg-blue', publicKey: 'K1', port: 51820 },
    key: 'key wfwg-blue',
    described: 'key K1 port 51820 dev wfwg-blue',
    order: PHASE.tunnelKey,
    on: 'wfwg-blue',
    others: [{ publicKey: 'K2' }, { port: 51822 }],
  },
  'wireguard-peer': {
    object: {
      ...{ kind: 'wireguard-peer', link: 'wfwg-blue', publicKey: 'K1', psk: 'a secret' },
      ...{ endpoint: '192.0.2.2:51820', keepalive: 0 },
    },
    key: 'peer wfwg-blue K1',
    described: 'peer K1 at 192.0.2.2:51820 dev wfwg-blue',
    order: PHASE.tunnelPeer,
    on: 'wfwg-blue',
    others: [{ endpoint: '192.0.2.3:51820' }, { psk: 'another' }, { keepalive: 25 }],
  },
  'wireguard-prefix': {
    object: { kind: 'wireguard-prefix', link: 'wfwg-blue', to: '10.120.2.0/24', publicKey: 'K1' },
    key: 'prefix wfwg-blue 10.120.2.0/24',
    described: 'prefix 10.120.2.0/24 of peer K1 dev wfwg-blue',
    order: PHASE.tunnelPrefix,
    on: 'wfwg-blue',
    others: [{ publicKey: 'K2' }],
  },
  port: {
    object: { kind: 'port', link: 'eth1', master: 'wfp-eth1' },
    key: 'port eth1',
    described: 'port eth1 of wfp-eth1',
    order: PHASE.port,
    on: 'eth1',
    bridge: 'wfp-eth1',
    others: [{ master: 'br0' }],
  },
  vlan: {
    object: { kind: 'vlan', link: 'eth1', bridge: 'wfp-eth1', vlan: 100 },
    key: 'vlan eth1 100',
    described: 'vlan 100 dev eth1',
    order: PHASE.portVlan,
    on: 'eth1',
    bridge: 'wfp-eth1',
    others: [{ untagged: true }, { bridge: 'br0' }],
  },
  sysctl: {
    object: { kind: 'sysctl', path: 'net/ipv4/conf/wfvx1/rp_filter', value: '2' },
    key: 'sysctl net/ipv4/conf/wfvx1/rp_filter',
    described: 'sysctl net/ipv4/conf/wfvx1/rp_filter = 2',
    order: PHASE.sysctl,
    on: 'wfvx1',
    others: [{ value: '0' }],
  },
};

const samples: [string, Sample<KernelObject>][] = [
  ...Object.entries<Sample<KernelObject>>(LINKS).map(([type, sample]): [string, Sample<KernelObject>] => [
    `link ${type}`,
    sample,
  ]),
  ...Object.entries<Sample<KernelObject>>(ITEMS),
];

const nameOf = (object: KernelObject): string =>
  object.kind === 'link' ? `link ${object.type}` : object.kind;

const changed = (object: KernelObject, change: Partial<KernelObject>): KernelObject =>
  ({ ...object, ...change }) as KernelObject;

for (const [name, { object, key, described, order, on, bridge, others, remade = [] }] of samples) {
  test(`${name}: key, description, order, and its link`, (t) => {
    const kind = kindOf(object);
    t.is(objectKey(object), key as ReturnType<typeof objectKey>);
    t.is(describeObject(object), described);
    t.is(kind.order(object), order);
    t.is(kind.link?.(object), on);
    t.is(kind.bridge?.(object), bridge);
    t.not(lineOf(object), '');
  });

  test(`${name}: equality, changes in place, and recreation`, (t) => {
    t.true(sameObject(object, { ...object }));
    t.deepEqual(plan(assume([object]), [object], { prune: true }), { steps: [], conflicts: [] });
    const doneTo = (change: Partial<KernelObject>): string[] => {
      const wanted = changed(object, change);
      t.is(objectKey(wanted), objectKey(object), JSON.stringify(change));
      t.false(sameObject(object, wanted), JSON.stringify(change));
      return plan(assume([object]), [wanted], { prune: true }).steps.map((step) => step.do);
    };
    for (const change of others)
      t.deepEqual(doneTo(change), object.kind === 'link' ? ['change-link'] : ['put'], JSON.stringify(change));
    for (const change of remade)
      t.deepEqual(doneTo(change), ['delete-link', 'create-link'], JSON.stringify(change));
  });

  test(`${name}: created where it is missing, deleted where it is not desired`, (t) => {
    const made = plan(assume([]), [object], { prune: true }).steps.map((step) => step.do);
    t.deepEqual(made, [object.kind === 'link' ? 'create-link' : 'put']);
    const removed = plan(assume([object]), [], { prune: true }).steps.map((step) => step.do);
    if (object.kind === 'link') t.deepEqual(removed, ['delete-link']);
    else t.deepEqual(removed, isRemovable(object) ? ['delete'] : []);
  });
}

test('no step touches a link that weft did not make', (t) => {
  const unowned = (): { owned: boolean; marked: boolean } => ({ owned: false, marked: false });
  for (const [name, { object }] of samples) {
    // The loopback exists in every namespace, and a port is a NIC that weft did not make.
    if (name === 'link loopback') continue;
    const step =
      object.kind === 'link'
        ? ({ do: 'change-link', link: object } as const)
        : ({ do: 'put', object, replace: false } as const);
    t.not(otherOwner(step, unowned), undefined, name);
  }
});

test('the worlds of the laws contain every kind', (t) => {
  const seen = new Set(
    sampleWorlds().flatMap(({ objects, containers }) =>
      [...objects, ...[...containers.values()].flatMap((container) => container.objects)].map(nameOf),
    ),
  );
  const missing = [
    ...Object.keys(LINK_KINDS).map((type) => `link ${type}`),
    ...Object.keys(ITEM_KINDS),
  ].filter((name) => !seen.has(name));
  t.deepEqual(missing, []);
});
