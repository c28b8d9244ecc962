// Networks of the drivers bridge and vlan: validity, conflicts, addressing.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import {
  addressingOf,
  driverOf,
  hasOwnGateway,
  needsOf,
  networkOf,
  reservedIn,
  vlanFor,
} from '../../core/drivers/index.js';
import { defaultBlock } from '../../core/drivers/layer2-spec.js';
import { formatVlans, parseVlan, parseVlans } from '../../core/drivers/vlan-ids.js';
import { canResolve, compileFirewall, compileNetwork, RESOLVER_IP } from '../../core/compile.js';
import { WeftError } from '../../core/errors.js';
import { checkOverlap, coversUnderlay, findOverlap } from '../../core/overlap.js';
import { decodeConfig, encodeConfig, occupiedBy } from '../../store/network-codec.js';
import { bridged, endpointOf, membershipOf, overlay, type BridgedFields } from './records.js';

const why = (work: () => unknown): string => {
  try {
    work();
    return 'it was accepted';
  } catch (error) {
    return error instanceof WeftError ? `${error.code} ${error.message}` : String(error);
  }
};

test('VLANs: 1 to 4094, alone and in ranges', (t) => {
  t.is(formatVlans(parseVlans('300, 100,200-210,205-220,101')), '100-101,200-220,300');
  for (const text of ['0', '4095', '1-4095', '20-10', '', 'a', '1-2-3', '-5', '99999'])
    t.regex(
      why(() => parseVlans(text)),
      /^INVALID_ARGUMENT allow-vlan: /,
      text,
    );
  for (const id of [0, 4095, -1, 1.5, NaN])
    t.regex(
      why(() => parseVlan(id)),
      /out of range/,
    );
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 4094 }), { minLength: 1, maxLength: 50 }), (ids) => {
      const all = parseVlans(ids.join(',')).flatMap(({ first, last }) =>
        Array.from({ length: last - first + 1 }, (_, i) => first + i),
      );
      t.deepEqual(
        all,
        ids.toSorted((a, b) => a - b),
      );
    }),
  );
});

const REFUSED: [string, 'bridge' | 'vlan', BridgedFields, RegExp][] = [
  ['loopback', 'bridge', { parent: 'lo' }, /parent: "lo" is the loopback/],
  ["weft's own", 'bridge', { parent: 'wfbr4097' }, /weft's own/],
  ['a long name', 'bridge', { parent: 'a234567890123456' }, /not an interface name/],
  ['a range outside', 'bridge', { parent: 'eth1', range: '192.0.2.0/28' }, /192\.0\.2\.0\/28 is not inside/],
  ['a gateway outside', 'bridge', { gateway: '192.0.2.1' }, /192\.0\.2\.1 is not inside/],
  ['the base', 'bridge', { gateway: '198.51.100.0' }, /base address/],
  ['the broadcast', 'vlan', { gateway: '198.51.100.255' }, /broadcast address/],
  ['no room', 'bridge', { subnet: '198.51.100.0/31' }, /no room/],
  ['loopback addresses', 'bridge', { subnet: '127.0.0.0/24' }, /reserved/],
  ['blocks without a parent', 'bridge', { hostPrefix: 28 }, /host-prefix: without a parent/],
  ['blocks too large', 'vlan', { parent: 'eth1', hostPrefix: 20 }, /20 does not fit/],
  ['a LAN inside', 'bridge', { parent: 'eth1', internal: true }, /internal: /],
  ['IPv6 on a LAN', 'bridge', { parent: 'eth1', subnet6: 'fd42::/64' }, /IPv4 addresses only/],
  ['a VLAN on a bridge', 'bridge', { vlan: 100 }, /vlan: the driver bridge has none/],
  ['VLAN 4095', 'vlan', { vlan: 4095 }, /4095 is out of range/],
  ['a node without a gateway', 'vlan', { parent: 'eth1', gatewayNode: 'n1' }, /no gateway/],
  ['a node without a parent', 'vlan', { gateway: '198.51.100.1', gatewayNode: 'n1' }, /every node has/],
];
for (const [what, driver, fields, words] of REFUSED) {
  test(`refused: ${what}`, (t) => {
    t.regex(
      why(() => bridged(driver, fields)),
      words,
    );
  });
}

test('each kind of network has its addressing, gateway and required capabilities', (t) => {
  const table = (
    [
      ['bridge', {}],
      ['bridge', { parent: 'eth1' }],
      ['bridge', { parent: 'eth1', range: '198.51.100.128/25', gateway: '198.51.100.1' }],
      ['vlan', {}],
      ['vlan', { gateway: '198.51.100.1' }],
      ['vlan', { parent: 'eth1', gateway: '198.51.100.1' }],
      ['vlan', { parent: 'eth1', gateway: '198.51.100.1', gatewayNode: 'n1' }],
    ] as const
  ).map(([driver, fields]) => {
    const network = bridged(driver, fields);
    return [
      addressingOf(network),
      network.gateway?.toString() ?? 'none',
      hasOwnGateway(network) ? 'own' : 'not own',
      network.masquerade ? 'masquerades' : '',
      needsOf(network).join('+'),
      String(compileFirewall([membershipOf(network)]).networks.map(({ links }) => links)),
    ].join(' ');
  });
  t.deepEqual(
    table.map((line) => line.trim().replace(/wfgw100-\w{6}$/, 'wfgw100-…')),
    [
      'node 198.51.100.1 own masquerades  wfbr-lan',
      'claims none not own',
      'blocks 198.51.100.1 not own',
      'node none not own  bridge-vlan-filtering',
      'node 198.51.100.1 own masquerades bridge-vlan-filtering+802.1q wfgw100-…',
      'blocks 198.51.100.1 not own  bridge-vlan-filtering',
      'blocks 198.51.100.1 own masquerades bridge-vlan-filtering+802.1q wfgw100-…',
    ],
  );
});

test('the name server’s address is on links that no other host is on', (t) => {
  const parent = { name: 'eth1', isBridge: false, mac: '02:00:00:00:00:01', mtu: 1500 };
  const gateway = '198.51.100.1';
  const resolves = (of: ReturnType<typeof bridged>): boolean => {
    const membership = { ...membershipOf(of), ...(of.parent !== undefined && { parent }) };
    const hasAddress = compileNetwork(membership).some(
      (object) => object.kind === 'address' && object.address === `${RESOLVER_IP}/32`,
    );
    t.is(canResolve(membership, endpointOf(of, '198.51.100.9/24')), hasAddress);
    return hasAddress;
  };
  t.true(resolves(bridged('bridge')));
  t.true(resolves(bridged('vlan', { gateway })));
  t.false(resolves(bridged('bridge', { parent: 'eth1' })));
  t.false(resolves(bridged('vlan', { parent: 'eth1', gateway, gatewayNode: 'n1' })));
});

test('which networks may have the same addresses', (t) => {
  const same = (a: ReturnType<typeof bridged>, b: ReturnType<typeof bridged> | ReturnType<typeof overlay>) =>
    findOverlap({ ...a, name: 'a' }, [{ ...b, name: 'b' }])?.name;
  const own = bridged('bridge');
  const lan = bridged('bridge', { parent: 'eth1', range: '198.51.100.128/26' });
  const vlan = bridged('vlan');
  t.is(same(vlan, bridged('vlan', { vlan: 200 })), undefined, 'as with pipework');
  t.is(same(vlan, own), undefined);
  t.is(same(bridged('vlan', { gateway: '198.51.100.1' }), own), 'b');
  t.is(same(own, own), 'b');
  t.is(same(lan, own), 'b');
  t.is(same(own, overlay({ subnet: '198.51.100.0/24' })), 'b');
  t.is(same(lan, bridged('bridge', { parent: 'eth2', range: '198.51.100.192/26' })), undefined);
  t.is(same(lan, bridged('bridge', { parent: 'eth2', range: '198.51.100.128/27' })), 'b');
  const host = IpAddress.parse('198.51.100.7');
  t.true(coversUnderlay(own, host));
  t.false(coversUnderlay(lan, host), 'the hosts are on their LAN');
  t.notThrows(() => checkOverlap(lan, [], [{ node: 'n1', ip: host }]));
});

test('a parent link serves one bridge, or different VLANs', (t) => {
  const taken = (
    a: BridgedFields & { driver: 'bridge' | 'vlan' },
    b: BridgedFields & { driver: 'bridge' | 'vlan' },
  ) =>
    why(() => {
      const network = bridged(a.driver, { ...a, name: 'a' });
      driverOf(network).checkBeside(network, [bridged(b.driver, { ...b, name: 'b' })]);
    });
  const parent = 'eth1';
  t.regex(
    taken({ driver: 'bridge', parent }, { driver: 'bridge', parent }),
    /eth1 is the parent of network b/,
  );
  t.regex(taken({ driver: 'vlan', parent }, { driver: 'bridge', parent }), /eth1 is the parent of network b/);
  t.regex(taken({ driver: 'vlan', parent }, { driver: 'vlan', parent }), /VLAN 100 on eth1 is network b/);
  t.regex(taken({ driver: 'vlan' }, { driver: 'vlan' }), /VLAN 100 is network b/);
  const fine = 'it was accepted';
  t.is(taken({ driver: 'vlan', parent }, { driver: 'vlan', parent, vlan: 200 }), fine);
  t.is(taken({ driver: 'vlan', parent }, { driver: 'vlan', parent: 'eth2' }), fine);
  t.is(taken({ driver: 'bridge' }, { driver: 'bridge' }), fine);
});

test('one container in another VLAN, where the network allows it', (t) => {
  const network = bridged('vlan', { allowVlan: parseVlans('200-210') });
  t.is(vlanFor(network, undefined), 100);
  t.is(vlanFor(network, 205), 205);
  t.is(vlanFor(network, 100), 100);
  t.regex(
    why(() => vlanFor(network, 300)),
    /FAILED_PRECONDITION vlan: .*does not allow VLAN 300, only 100 and 200-210/,
  );
  t.regex(
    why(() => vlanFor(bridged('bridge'), 100)),
    /INVALID_ARGUMENT vlan: .*has no VLANs/,
  );
  t.is(vlanFor(overlay(), undefined), undefined);
});

test('addresses: all of a block except those that the network reserves', (t) => {
  const network = bridged('bridge', { parent: 'eth1', range: '198.51.100.0/28', gateway: '198.51.100.1' });
  const block = IpNetwork.parse('198.51.100.0/30');
  const used = new Set<string>();
  for (;;) {
    try {
      used.add(
        driverOf(network)
          .pick(network, block, (ip) => used.has(ip))
          .toString(),
      );
    } catch {
      break;
    }
  }
  t.deepEqual([...used], ['198.51.100.2', '198.51.100.3']);
  t.is(
    reservedIn(network, block, IpAddress.parse('198.51.100.255')),
    'is the broadcast address of 198.51.100.0/24',
  );
  t.deepEqual(
    [16, 20, 22, 24, 26, 28, 30, 32].map((length) =>
      defaultBlock(IpNetwork.of(IpAddress.parse('10.0.0.0'), length)),
    ),
    [24, 24, 26, 28, 30, 30, 30, 32],
  );
});

const spec = (): fc.Arbitrary<BridgedFields & { driver: 'bridge' | 'vlan' }> =>
  fc.record(
    {
      driver: fc.constantFrom<'bridge' | 'vlan'>('bridge', 'vlan'),
      parent: fc.constantFrom('eth1', 'br0'),
      range: fc.constantFrom('198.51.100.128/25', '198.51.100.0/24'),
      gateway: fc.constantFrom('198.51.100.1', '198.51.100.254'),
      mtu: fc.integer({ min: 1280, max: 9000 }),
      masquerade: fc.boolean(),
    },
    { requiredKeys: ['driver'] },
  );

test('encoded for etcd and decoded; flanneld has no such backend, and other releases leave the prefix alone', (t) => {
  fc.assert(
    fc.property(spec(), ({ driver, ...fields }) => {
      const network = bridged(driver, fields);
      const text = encodeConfig(network);
      t.deepEqual({ ...decodeConfig('lan', text) }, { ...network });
      t.is((JSON.parse(text) as { Backend: { Type: string } }).Backend.Type, `weft-${driver}`);
      t.deepEqual(occupiedBy(text).prefixes.map(String), [network.subnet.toString()]);
    }),
  );
  for (const [text, words] of [
    ['{"Network":"198.51.100.0/24","Backend":{"Type":"weft-vlan"}}', /vlan: not given/],
    [
      '{"Network":"198.51.100.0/24","Backend":{"Type":"weft-vlan"},"Weft":{"VLAN":4095}}',
      /VLAN: 4095; expected/,
    ],
    ['{"Network":"198.51.100.0/24","Backend":{"Type":"weft-bridge"},"Weft":{"Parent":"lo"}}', /loopback/],
    ['{"Backend":{"Type":"weft-bridge"}}', /Network is missing/],
  ] as const)
    t.throws(() => decodeConfig('lan', text), { message: words });
});

test('a spec is not modified', (t) => {
  const ranges = [{ first: 200, last: 210 }];
  networkOf({
    name: 'v',
    driver: 'vlan',
    vlan: 5,
    subnet: IpNetwork.parse('10.1.1.0/24'),
    allowVlan: [...ranges, { first: 205, last: 300 }],
  });
  t.deepEqual(ranges, [{ first: 200, last: 210 }]);
});
