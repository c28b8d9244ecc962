// Choice of a node's subnet.
//
// flannel's order and weft's additions as a table, and laws for every state of a network.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import {
  chooseOwn,
  chooseSubnets,
  fits,
  isFree,
  ownLeases,
  type LeaseKey,
} from '../../store/lease-choice.js';
import { decodeConfig } from '../../store/network-codec.js';
import type { LeaseRequest, StoredLease } from '../../store/store.js';
import { request } from './helpers.js';

const network = decodeConfig('blue', '{"Network":"10.100.0.0/16","Backend":{"Type":"vxlan"}}');
const dual = decodeConfig(
  'blue',
  '{"Network":"10.100.0.0/16","EnableIPv6":true,"IPv6Network":"fd42:100::/48","Backend":{"Type":"vxlan"}}',
);

function held(
  subnet: string,
  owner: { ip?: string; node?: string; instance?: string; subnet6?: string } = {},
): LeaseKey {
  const four = IpNetwork.parse(subnet);
  const six = owner.subnet6 === undefined ? undefined : IpNetwork.parse(owner.subnet6);
  const lease: StoredLease = {
    network: 'blue',
    subnet: four,
    ...(six && { subnet6: six }),
    publicIp: IpAddress.parse(owner.ip ?? '198.51.100.1'),
    backendType: 'vxlan',
    ...(owner.node !== undefined && { node: owner.node }),
    ...(owner.instance !== undefined && { instance: owner.instance }),
    reservation: false,
    etcdLease: '1',
  };
  return { key: subnet, subnet: four, ...(six && { subnet6: six }), modRevision: '1', etcdLease: '1', lease };
}

const mine = request(network, 1);

const avoiding = (...prefixes: string[]): LeaseRequest => ({
  ...mine,
  avoid: prefixes.map((text) => IpNetwork.parse(text)),
});

const order: [string, LeaseKey[], string[]][] = [
  ['of another node', [held('10.100.1.0/24', { node: 'n2', instance: 'instance-2' })], []],
  ['a flanneld’s with this address', [held('10.100.1.0/24', { ip: '192.0.2.1' })], ['10.100.1.0/24']],
  [
    'own instance after a new address',
    [held('10.100.1.0/24', { node: 'n1', instance: 'instance-1' })],
    ['10.100.1.0/24'],
  ],
  [
    'own name after a lost state',
    [held('10.100.1.0/24', { node: 'n1', instance: 'old' })],
    ['10.100.1.0/24'],
  ],
  [
    'another node’s with this address last',
    [
      held('10.100.1.0/24', { ip: '192.0.2.1', node: 'n9', instance: 'instance-9' }),
      held('10.100.2.0/24', { node: 'n1', instance: 'old' }),
      held('10.100.4.0/24', { ip: '192.0.2.1' }),
    ],
    ['10.100.4.0/24', '10.100.2.0/24', '10.100.1.0/24'],
  ],
  [
    'address before instance, instance before name, another node’s not at all',
    [
      held('10.100.1.0/24', { ip: '192.0.2.1', node: 'n9', instance: 'instance-9' }),
      held('10.100.2.0/24', { node: 'n1', instance: 'old' }),
      held('10.100.3.0/24', { node: 'n1', instance: 'instance-1' }),
      held('10.100.4.0/24', { ip: '192.0.2.1' }),
      held('10.100.5.0/24', { ip: '192.0.2.1', node: 'n1', instance: 'instance-1' }),
    ],
    ['10.100.5.0/24', '10.100.4.0/24', '10.100.3.0/24', '10.100.2.0/24'],
  ],
];
for (const [what, there, expected] of order) {
  test(`own leases: ${what}`, (t) =>
    t.deepEqual(
      ownLeases(mine, there).map(({ key }) => key.key),
      expected,
    ));
}

test('own leases: that of the previous subnet before all', (t) => {
  const there = [
    held('10.100.1.0/24', { ip: '192.0.2.1', node: 'n1', instance: 'instance-1' }),
    held('10.100.2.0/24', { node: 'n1', instance: 'instance-1' }),
  ];
  const asked = { ...mine, previous: { subnet: IpNetwork.parse('10.100.2.0/24') } };
  const own = ownLeases(asked, there);
  const { usable, stale } = chooseOwn(asked, there, own);
  t.is(usable?.key.key, '10.100.2.0/24');
  t.deepEqual(
    stale.map(({ key }) => key.key),
    ['10.100.1.0/24'],
  );
});

test('fits: length, range and both families', (t) => {
  const one = (subnet: string, subnet6?: string) => ({
    subnet: IpNetwork.parse(subnet),
    ...(subnet6 !== undefined && { subnet6: IpNetwork.parse(subnet6) }),
  });
  t.true(fits(network, one('10.100.1.0/24')));
  t.false(fits(network, one('10.100.0.0/24')), 'the first is never given');
  t.false(fits(network, one('10.100.1.0/25')));
  t.false(fits(network, one('10.101.1.0/24')));
  t.false(fits(network, one('10.100.1.0/24', 'fd42:100:0:1::/64')));
  t.false(fits(dual, one('10.100.1.0/24')));
  t.true(fits(dual, one('10.100.1.0/24', 'fd42:100:0:1::/64')));
  t.false(fits(dual, one('10.100.1.0/24', 'fd42:101:0:1::/64')));
});

test('the previous subnet is reused where it is free and fits', (t) => {
  const previous = (subnet: string) => ({ ...mine, previous: { subnet: IpNetwork.parse(subnet) } });
  t.is(chooseSubnets(previous('10.100.77.0/24'), [])?.subnet.toString(), '10.100.77.0/24');
  t.not(
    chooseSubnets(previous('10.100.77.0/24'), [held('10.100.77.0/24')])?.subnet.toString(),
    '10.100.77.0/24',
  );
  t.not(
    chooseSubnets(previous('10.100.77.0/24'), [held('10.100.77.128/25')])?.subnet.toString(),
    '10.100.77.0/24',
  );
  t.is(chooseSubnets(previous('10.9.9.0/24'), [])?.subnet.length, 24);
});

test('a random choice is among the first hundred free subnets', (t) => {
  const first = chooseSubnets(mine, [held('10.100.1.0/24'), held('10.100.2.128/25')], () => 0);
  t.is(first?.subnet.toString(), '10.100.3.0/24');
  const last = chooseSubnets(mine, [held('10.100.1.0/24')], (max) => max - 1);
  t.is(last?.subnet.toString(), '10.100.101.0/24');
});

test('both families have the same subnet number unless it is in use', (t) => {
  const asker = request(dual, 1);
  const at = (index: number) => (max: number) => Math.min(index, max - 1);
  const chosen = chooseSubnets(asker, [], at(4));
  t.is(chosen?.subnet.toString(), '10.100.5.0/24');
  t.is(chosen?.subnet6?.toString(), 'fd42:100:0:5::/64');
  const other = chooseSubnets(asker, [held('10.100.200.0/24', { subnet6: 'fd42:100:0:5::/64' })], at(4));
  t.is(other?.subnet.toString(), '10.100.5.0/24');
  t.not(other?.subnet6?.toString(), 'fd42:100:0:5::/64');
});

test('an exhausted network has no subnet', (t) => {
  t.is(chooseSubnets(mine, [held('10.100.0.0/16')]), undefined);
  const six = request(dual, 1);
  t.is(chooseSubnets(six, [held('10.100.9.0/24', { subnet6: 'fd42:100::/48' })]), undefined);
});

test('law: the choice fits and is free, and exists while any subnet is free', (t) => {
  const small = decodeConfig('blue', '{"Network":"10.100.0.0/24","SubnetLen":28,"Backend":{"Type":"vxlan"}}');
  const key = fc
    .record({ value: fc.integer({ min: 0, max: 255 }), length: fc.integer({ min: 25, max: 32 }) })
    .map(({ value, length }) =>
      held(IpNetwork.of(IpAddress.parse('10.100.0.0').plus(value), length).toString()),
    );
  fc.assert(
    fc.property(fc.array(key, { maxLength: 12 }), fc.nat(), (there, seed) => {
      const chosen = chooseSubnets(request(small, 1), there, (max) => seed % max);
      const free = Array.from({ length: 15 }, (_, i) => ({
        subnet: IpNetwork.parse(`10.100.0.${(i + 1) * 16}/28`),
      })).filter((one) => isFree(one, there));
      t.is(chosen === undefined, free.length === 0);
      if (chosen !== undefined) t.true(fits(small, chosen) && isFree(chosen, there));
    }),
    { numRuns: 500 },
  );
  t.pass();
});

test('no new subnet is one of the node’s other networks', (t) => {
  const narrow = decodeConfig(
    'blue',
    '{"Network":"10.100.0.0/22","SubnetLen":24,"Backend":{"Type":"vxlan"}}',
  );
  const only = { ...avoiding('10.100.1.0/24', '10.100.2.128/25'), network: narrow };
  t.is(chooseSubnets(only, [])?.subnet.toString(), '10.100.3.0/24');
  t.is(chooseSubnets(only, [held('10.100.3.0/24', { node: 'n2', instance: 'instance-2' })]), undefined);
  const six = { ...avoiding('fd42:100:0:1::/64'), network: dual };
  t.not(chooseSubnets(six, [], () => 0)?.subnet6?.toString(), 'fd42:100:0:1::/64');
});

test('a subnet in one of the node’s other networks is kept only while containers run in it', (t) => {
  const previous = { subnet: IpNetwork.parse('10.100.1.0/24') };
  const request = { ...avoiding('10.100.1.0/24'), previous };
  t.is(chooseSubnets({ ...request, inUse: true }, [])?.subnet.toString(), '10.100.1.0/24');
  t.not(chooseSubnets(request, [])?.subnet.toString(), '10.100.1.0/24');
  const own = [held('10.100.1.0/24', { node: 'n1', instance: 'instance-1' })];
  const fresh = avoiding('10.100.1.0/24');
  t.like(chooseOwn(fresh, own, ownLeases(fresh, own)), { usable: undefined });
  t.is(chooseOwn(request, own, ownLeases(request, own)).usable?.key, own[0]);
});
