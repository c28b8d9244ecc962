// Elements of weft's sets: what items that come, change and go leave is what the whole is compiled to.
import test from 'ava';
import fc from 'fast-check';

import { compileBridgeRuleset } from '../../../agent/kernel/firewall/bridge-ruleset.js';
import { elementChanges, elementsOf } from '../../../agent/kernel/firewall/elements.js';
import { compileRuleset } from '../../../agent/kernel/firewall/ruleset.js';
import type { ElementChange, Ruleset } from '../../../agent/kernel/firewall/rules.js';
import { IpNetwork } from '../../../core/address.js';
import {
  firewallPortKey,
  type ContainerPort,
  type Firewall,
  type FirewallItem,
  type FirewallPort,
} from '../../../core/firewall.js';
import type { PolicyItem } from '../../../core/policy/index.js';
import { runs } from '../../core/laws.js';

const IPS = ['10.100.5.2', '10.100.5.3', 'fd00::2'];
const LINKS = ['wfepa', 'wfepb'];
const MAC = '02:00:00:00:00:01';

const number = fc.constantFrom(0x1_0001, 0x1_0002);
const ip = fc.constantFrom(...IPS);
const link = fc.constantFrom(...LINKS);

const policyItem: fc.Arbitrary<PolicyItem> = fc.oneof(
  fc.record(
    { policy: fc.constant('address' as const), ip, peer: number, target: number },
    { requiredKeys: ['policy', 'ip'] },
  ),
  fc.record({
    policy: fc.constant('address' as const),
    ip,
    target: number,
    host: fc.constant(true as const),
  }),
  fc.record(
    { policy: fc.constant('way' as const), link, target: number },
    { requiredKeys: ['policy', 'link'] },
  ),
  fc.record({
    ...{ policy: fc.constant('published' as const), ip },
    ...{ protocol: fc.constantFrom('tcp' as const, 'udp' as const), port: fc.constant(80) },
  }),
  fc.record(
    {
      ...{ policy: fc.constant('verdict' as const), peer: number, target: number },
      ports: fc.constant({ protocol: 'tcp' as const, first: 80, last: 90 }),
    },
    { requiredKeys: ['policy', 'peer', 'target'] },
  ),
  fc.record({
    ...{ policy: fc.constant('port' as const), link, gateway: fc.constant(MAC), closed: fc.boolean() },
  }),
);

function keyOf(item: PolicyItem): string {
  switch (item.policy) {
    case 'address':
      return `address ${item.ip}`;
    case 'port':
    case 'way':
      return `${item.policy} ${item.link}`;
    case 'published':
      return `published ${item.ip} ${item.protocol}`;
    case 'verdict':
      return `verdict ${item.peer} ${item.target} ${item.ports?.first ?? '-'}`;
  }
}

/** The first two need the same element, beside one each of a map. */
const PORTS: readonly FirewallPort[] = [
  { hostPort: 80, protocol: 'tcp', ip: '10.100.5.2', port: 80, clients: 'gateway' },
  { hostPort: 81, protocol: 'tcp', ip: '10.100.5.2', port: 80, clients: 'gateway' },
  { hostPort: 82, protocol: 'udp', ip: 'fd00::2', port: 80, clients: 'itself' },
];

const container: fc.Arbitrary<ContainerPort> = fc.tuple(link, fc.boolean()).map(([name, isBound]) => ({
  link: name,
  ...(isBound && { bounds: { mac: MAC, ips: IPS.slice(0, 1), allowed: [] } }),
}));

const step = fc.record({
  goes: fc.boolean(),
  item: fc.oneof(
    policyItem.map((item) => ({ of: 'policyItems' as const, key: keyOf(item), item })),
    fc.constantFrom(...PORTS).map((item) => ({ of: 'ports' as const, key: firewallPortKey(item), item })),
    container.map((item) => ({ of: 'containers' as const, key: item.link, item })),
  ),
});

const elementsIn = (ruleset: Ruleset | undefined): [string, string[]][] =>
  [...(ruleset?.sets ?? [])].map(([name, { elements }]) => [name, [...elements].toSorted()]);

function write({ sets }: Ruleset, changes: readonly ElementChange[]): void {
  for (const { set, add, remove } of changes) {
    const elements = sets.get(set)?.elements;
    for (const element of remove) if (elements?.delete(element) !== true) throw new Error(`no ${element}`);
    for (const element of add) elements?.add(element);
  }
}

test('items that come, change and go together leave the elements of what is there', (t) => {
  fc.assert(
    fc.property(fc.array(fc.array(step, { maxLength: 4 }), { maxLength: 12 }), (turns) => {
      const items = {
        policyItems: new Map<string, PolicyItem>(),
        ports: new Map<string, FirewallPort>(),
        containers: new Map<string, ContainerPort>(),
      };
      const prefixes = ['10.100.0.0/16', 'fd00::/64'].map((text) => IpNetwork.parse(text));
      const desired: Firewall = {
        networks: [{ name: 'blue', links: ['wfbr1'], prefixes, internal: false, masquerade: true }],
        policy: { ranges: [] },
        ...items,
      };
      const [inet, bridge] = [compileRuleset(desired), compileBridgeRuleset(desired)];
      if (inet === undefined || bridge === undefined) throw new Error('no tables');
      for (const steps of turns) {
        const before = new Map<string, FirewallItem | undefined>();
        const there = (of: keyof typeof items, key: string): FirewallItem | undefined => items[of].get(key);
        for (const { goes, item } of steps) {
          const name = `${item.of} ${item.key}`;
          if (!before.has(name)) before.set(name, there(item.of, item.key));
          const all = items[item.of] as Map<string, FirewallItem>;
          if (goes) all.delete(item.key);
          else all.set(item.key, item.item);
        }
        const removed = [...before.values()].flatMap((item) => (item === undefined ? [] : elementsOf(item)));
        const keys = new Map(steps.map(({ item }) => [`${item.of} ${item.key}`, item]));
        const added = [...keys.values()].flatMap(({ of, key }) => there(of, key) ?? []).flatMap(elementsOf);
        for (const [name, ruleset] of [
          ['inet weft', inet],
          ['bridge weft', bridge],
        ] as const)
          write(ruleset, elementChanges(desired, added, removed, { name, ruleset }));
      }
      t.deepEqual(elementsIn(inet), elementsIn(compileRuleset(desired)));
      t.deepEqual(elementsIn(bridge), elementsIn(compileBridgeRuleset(desired)));
    }),
    runs(200),
  );
});

test('a closed container whose class changes stays closed: no element of it goes and comes', (t) => {
  const address = { policy: 'address', ip: '10.100.5.2', target: 0x1_0001 } as const;
  const [before, after] = [
    { ...address, peer: 0x1_0001 },
    { ...address, peer: 0x1_0002 },
  ];
  const desired: Firewall = {
    networks: [{ name: 'blue', links: ['wfbr1'], prefixes: [], internal: false, masquerade: true }],
    policy: { ranges: [] },
    policyItems: new Map([['address 10.100.5.2', before]]),
  };
  const ruleset = compileRuleset(desired);
  t.deepEqual(
    elementChanges(desired, elementsOf(after), elementsOf(before), { name: 'inet weft', ruleset }),
    [{ set: 'peers4', add: ['10.100.5.2 : 65538'], remove: ['10.100.5.2 : 65537'] }],
  );
});
