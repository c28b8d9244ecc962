// Keys and values: what flannel writes is read, what weft writes reads back the same, and what nobody can read is named.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { parseHostPrefix, parseRange, type Network } from '../../core/network.js';
import type { Claim, Endpoint, NodeRecord } from '../../core/records.js';
import { formatSubnetKey, Keys, parseSubnetKey, rangeOf } from '../../store/keys.js';
import { decodeLease, encodeLease } from '../../store/lease-codec.js';
import { decodeConfig, encodeConfig, occupiedBy } from '../../store/network-codec.js';
import {
  decodeClaim,
  decodeEndpoint,
  decodeNode,
  encodeClaim,
  encodeEndpoint,
  encodeNode,
} from '../../store/record-codec.js';
import type { StoredLease } from '../../store/store.js';
import { endpoint } from './helpers.js';

const keys = new Keys('/weft/');
const leaseKey = (text: string) => {
  const parsed = keys.parse(`/weft/networks/blue/subnets/${text}`);
  if (parsed.kind !== 'lease') throw new Error(JSON.stringify(parsed, (_, value: unknown) => String(value)));
  return parsed;
};
const because = (call: () => unknown): string => {
  try {
    call();
  } catch (error) {
    return (error as Error).message;
  }
  return 'nothing was thrown';
};

test('keys are where flannel and the contract have them', (t) => {
  t.is(keys.config('blue'), '/weft/networks/blue/config');
  t.is(keys.lease('blue', IpNetwork.parse('10.100.5.0/24')), '/weft/networks/blue/subnets/10.100.5.0-24');
  t.is(keys.endpoint('blue', '0123456789abcdef'), '/weft/networks/blue/endpoints/0123456789abcdef');
  t.is(keys.node('n1'), '/weft/nodes/n1');
  t.is(keys.alive('n1'), '/weft/nodes/n1/alive');
  t.is(keys.removal('network', 'blue'), '/weft/removed/networks/blue');
  t.is(keys.removal('node', 'n1'), '/weft/removed/nodes/n1');
});

test('every key is taken apart into what it was built from', (t) => {
  const network = 'blue';
  const kinds = [
    keys.config(network),
    keys.lease(network, IpNetwork.parse('10.1.2.0/24'), IpNetwork.parse('fd42::/64')),
    keys.endpoint(network, 'abc'),
    keys.endpointName(network, 'web.1'),
    keys.claim(network, 'fd42::7'),
    keys.node('a.b'),
    keys.alive('a.b'),
    keys.removal('network', network),
    keys.removal('node', 'a.b'),
    keys.allocated(),
    keys.leader('controller'),
  ].map((key) => keys.parse(key).kind);
  t.deepEqual(kinds, [
    'network',
    'lease',
    'endpoint',
    'endpointName',
    'claim',
    'node',
    'alive',
    'removal',
    'removal',
    'allocated',
    'leader',
  ]);
});

test('keys of others are passed over, and broken ones of weft are named', (t) => {
  for (const key of [
    '/other/networks/blue/config',
    '/weft/x',
    '/weft/networks/blue/else',
    '/weft/networks/blue/a/b/c',
    '/weftx/nodes/a',
  ]) {
    t.is(keys.parse(key).kind, 'other', key);
  }
  for (const key of [
    '/weft/networks/b.lue/config',
    '/weft/networks/blue/subnets/10.1.2.0',
    '/weft/networks/blue/subnets/10.1.2.3-24',
    '/weft/networks/blue/subnets/10.1.2.0-33',
    '/weft/networks/blue/subnets/x',
    '/weft/networks/blue/claims/10.1.2',
    '/weft/networks/blue/endpoints/xyz',
    '/weft/nodes/-a',
  ]) {
    t.is(keys.parse(key).kind, 'bad', key);
  }
});

test('subnet keys are those of flannel, and both spellings of IPv6 are read', (t) => {
  // The literal examples of flannel's own tests (pkg/subnet/subnet_test.go).
  const four = IpNetwork.parse('10.12.13.0/24');
  const six = IpNetwork.parse('fd00:12:13::/56');
  t.is(formatSubnetKey(four, six), '10.12.13.0-24&fd00:12:13::-56');
  t.is(formatSubnetKey(four), '10.12.13.0-24');
  for (const text of ['10.100.5.0-24&fd42:100:0:5::-64', '10.100.5.0-24&fd42-100-0-5---64']) {
    const parsed = parseSubnetKey(text);
    t.is(parsed.subnet.toString(), '10.100.5.0/24');
    t.is(parsed.subnet6?.toString(), 'fd42:100:0:5::/64');
  }
});

test('a range covers what begins so and nothing else', (t) => {
  const { key, range_end } = rangeOf('/weft/networks/blue/');
  t.is(key.toString(), '/weft/networks/blue/');
  t.is(range_end.toString(), '/weft/networks/blue0');
});

const config = (text: string) => decodeConfig('blue', text);

test('a config by hand gets flannel’s defaults', (t) => {
  const network = config('{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}');
  t.like(network, {
    hostPrefix: 24,
    vni: 1,
    port: 8472,
    internal: false,
    masquerade: true,
    driver: 'overlay',
  });
  t.is(network.range.first.toString(), '10.5.1.0/24');
  t.is(network.range.last.toString(), '10.5.255.0/24');
  t.is(network.mtu, undefined);
  t.is(config('{"Network":"10.5.0.0/23","Backend":{"Type":"vxlan"}}').hostPrefix, 25);
});

test('a config is read as Go reads it', (t) => {
  const network = config(
    '{"network":"10.5.7.9/16","SUBNETLEN":26,"SubnetMin":"10.5.1.0","SubnetMax":null,"backend":{"type":"VXLAN","vni":7,"port":0,"mtu":1400,"DirectRouting":true,"Learning":true},"EnableIPv6":false,"IPv6Network":"fd00::/48","Other":[1]}',
  );
  t.is(network.subnet.toString(), '10.5.0.0/16', 'host bits are dropped');
  t.like(network, { hostPrefix: 26, vni: 7, port: 8472, mtu: 1350 });
  t.is(network.subnet6, undefined);
  t.is(network.range.first.toString(), '10.5.1.0/26');
});

test('a dual-stack config', (t) => {
  const network = config(
    '{"EnableIPv6":true,"Network":"10.100.0.0/16","IPv6Network":"fd42:100::/48","Backend":{"Type":"vxlan","VNI":4097,"Port":8472}}',
  );
  t.is(network.hostPrefix6, 64);
  t.is(network.range6?.first.toString(), 'fd42:100:0:1::/64');
  // flannel splits a long IPv6 network in four, where weft would choose otherwise.
  const long = config(
    '{"EnableIPv6":true,"Network":"10.100.0.0/16","IPv6Network":"fd42:100::/80","Backend":{"Type":"vxlan"}}',
  );
  t.is(long.hostPrefix6, 82);
});

const refused: [string, string, RegExp][] = [
  ['no JSON', 'x', /not JSON/],
  ['no object', '[1]', /not a JSON object/],
  ['no Backend', '{"Network":"10.5.0.0/16"}', /Backend is missing.*udp.*vxlan/],
  ['Backend null', '{"Network":"10.5.0.0/16","Backend":null}', /Backend is missing/],
  [
    'another backend',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"host-gw"}}',
    /Backend\.Type: "host-gw" is not served.*vxlan/,
  ],
  [
    'WireGuard with fields of its own',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"wireguard","MTU":"x"}}',
    /"wireguard" is not served/,
  ],
  ['Backend of a wrong type', '{"Network":"10.5.0.0/16","Backend":"vxlan"}', /Backend/],
  ['GBP', '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","GBP":true}}', /Backend\.GBP: true/],
  [
    'IPv6 alone',
    '{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fd00::/48","Backend":{"Type":"vxlan"}}',
    /EnableIPv4: false/,
  ],
  ['no Network', '{"Backend":{"Type":"vxlan"}}', /Network is missing; expected an IPv4 prefix/],
  [
    'Network of the wrong family',
    '{"Network":"fd00::/48","Backend":{"Type":"vxlan"}}',
    /Network: "fd00::\/48"; expected an IPv4 prefix/,
  ],
  ['Network a number', '{"Network":10,"Backend":{"Type":"vxlan"}}', /Network: 10; expected an IPv4 prefix/],
  [
    'EnableIPv6 without network',
    '{"EnableIPv6":true,"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}',
    /IPv6Network is missing/,
  ],
  [
    'SubnetLen a fraction',
    '{"Network":"10.5.0.0/16","SubnetLen":24.5,"Backend":{"Type":"vxlan"}}',
    /SubnetLen: 24\.5; expected a whole number/,
  ],
  [
    'SubnetLen too short',
    '{"Network":"10.5.0.0/16","SubnetLen":17,"Backend":{"Type":"vxlan"}}',
    /SubnetLen: 17 does not fit/,
  ],
  ['Network too small', '{"Network":"10.5.0.0/29","Backend":{"Type":"vxlan"}}', /too small/],
  [
    'SubnetMin outside',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.6.0.0","Backend":{"Type":"vxlan"}}',
    /SubnetMin: 10\.6\.0\.0 is not inside/,
  ],
  [
    'SubnetMin unaligned',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.1","Backend":{"Type":"vxlan"}}',
    /SubnetMin.*not the base/,
  ],
  [
    'SubnetMin after SubnetMax',
    '{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.1.0","Backend":{"Type":"vxlan"}}',
    /lies after/,
  ],
  [
    'VNI 0',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":0}}',
    /Backend\.VNI: 0; expected a whole number from 1 to 16777215/,
  ],
  [
    'VNI text',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","VNI":"1"}}',
    /Backend\.VNI: "1"; expected/,
  ],
  ['Port', '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","Port":65536}}', /Backend\.Port: 65536/],
  [
    'MTU',
    '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan","MTU":100}}',
    /Backend\.MTU: 100; expected at least 118/,
  ],
  [
    'multicast',
    '{"Network":"224.0.0.0/16","Backend":{"Type":"vxlan"}}',
    /Network: 224\.0\.0\.0\/16 overlaps the reserved/,
  ],
];
for (const [what, text, why] of refused) {
  test(`a config is refused with its field: ${what}`, (t) =>
    t.regex(
      because(() => config(text)),
      why,
    ));
}

test('a config that was read is written as it was', (t) => {
  const text = '{ "Network":"10.5.0.0/16", "Mine":{"a":1}, "Backend":{"Type":"vxlan","DirectRouting":true} }';
  t.is(encodeConfig(config(text)), text);
});

test('a network that weft made is written as the contract shows it', (t) => {
  const subnet = IpNetwork.parse('10.100.0.0/16');
  const text = encodeConfig({
    name: 'blue',
    driver: 'overlay',
    backend: 'vxlan',
    subnet,
    hostPrefix: 24,
    range: parseRange(subnet, 24, undefined, undefined),
    vni: 4097,
    port: 8472,
    internal: false,
    masquerade: true,
  });
  t.is(
    text,
    '{"Network":"10.100.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan","VNI":4097,"Port":8472},"Weft":{"Internal":false,"Masquerade":true}}',
  );
});

test('what an unserved config takes up is still seen', (t) => {
  const occupied = occupiedBy(
    '{"Network":"10.5.0.0/16","IPv6Network":"fd00::/48","Backend":{"Type":"host-gw","VNI":9}}',
  );
  t.deepEqual(occupied.prefixes.map(String), ['10.5.0.0/16', 'fd00::/48']);
  t.is(occupied.vni, 9);
  t.deepEqual(occupiedBy('x'), { prefixes: [] });
  t.deepEqual(occupiedBy('{"Network":7}'), { prefixes: [] });
});

test('a lease as flannel writes it', (t) => {
  const text =
    '{"PublicIP":"192.0.2.10","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"52:54:00:12:34:56"}}';
  const lease = decodeLease(leaseKey('10.5.52.0-24'), text, '77');
  t.like(lease, { network: 'blue', backendType: 'vxlan', reservation: false, etcdLease: '77' });
  t.is(lease.publicIp.toString(), '192.0.2.10');
  t.deepEqual(lease.vtep, { vni: 1, mac: '52:54:00:12:34:56' });
  t.is(lease.node, undefined);
  t.is(encodeLease(lease), text);
});

test('leases of other backends and reservations by hand are read, and their data left alone', (t) => {
  const wireguard = decodeLease(
    leaseKey('10.5.52.0-24'),
    '{"PublicIP":"192.0.2.10","BackendType":"wireguard","BackendData":{"PublicKey":"x"}}',
    '7',
  );
  t.is(wireguard.backendType, 'wireguard');
  t.is(wireguard.vtep, undefined);
  const reservation = decodeLease(leaseKey('10.5.52.0-24'), '{}', '0');
  t.true(reservation.reservation);
  t.is(reservation.publicIp.toString(), '0.0.0.0');
});

for (const [what, text, why] of [
  ['PublicIP', '{"PublicIP":"x","BackendType":"vxlan"}', /PublicIP: "x"; expected an IPv4 address/],
  ['PublicIP of IPv6', '{"PublicIP":"2001:db8::1"}', /PublicIP: "2001:db8::1"; expected an IPv4/],
  [
    'VtepMAC',
    '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"zz"}}',
    /BackendData\.VtepMAC: "zz"; expected a unicast MAC/,
  ],
  ['BackendData', '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":"x"}', /BackendData: "x"/],
  [
    'VNI missing',
    '{"PublicIP":"192.0.2.1","BackendType":"vxlan","BackendData":{"VtepMAC":"02:00:00:00:00:01"}}',
    /BackendData\.VNI is missing/,
  ],
] as const) {
  test(`a lease is refused with its field: ${what}`, (t) =>
    t.regex(
      because(() => decodeLease(leaseKey('10.5.52.0-24'), text, '1')),
      why,
    ));
}

test('a huge value is not even parsed', (t) => {
  t.regex(
    because(() => config(`{"Network":"${'1'.repeat(70_000)}"}`)),
    /characters long/,
  );
});

// --- everything that weft can write reads back the same

const ip4 = fc.integer({ min: 0x0a000001, max: 0x0afffffe }).map((value) => IpAddress.of(4, BigInt(value)));
const ip6 = fc.bigInt(1n, (1n << 64n) - 1n).map((value) => IpAddress.of(6, (0xfd42n << 112n) + value));
const macAddress = fc
  .tuple(...Array.from({ length: 5 }, () => fc.integer({ min: 0, max: 255 })))
  .map((bytes) => `02:${bytes.map((byte) => byte.toString(16).padStart(2, '0')).join(':')}`);
const word = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9_.-]{0,20}$/);
const vtep = fc.record({ vni: fc.integer({ min: 1, max: 16_777_215 }), mac: macAddress });
const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, part: unknown) =>
      part instanceof IpAddress || part instanceof IpNetwork ? part.toString() : part,
    ),
  );

const network: fc.Arbitrary<Network> = fc
  .record({
    base: ip4,
    length: fc.integer({ min: 8, max: 28 }),
    longer: fc.integer({ min: 2, max: 8 }),
    six: fc.option(fc.record({ base: ip6, length: fc.integer({ min: 16, max: 110 }) }), { nil: undefined }),
    vni: fc.integer({ min: 1, max: 16_777_215 }),
    port: fc.integer({ min: 1, max: 65535 }),
    mtu: fc.option(fc.integer({ min: 1280, max: 9000 }), { nil: undefined }),
    internal: fc.boolean(),
    masquerade: fc.boolean(),
    narrow: fc.boolean(),
  })
  .map(({ base, length, longer, six, vni, port, mtu, internal, masquerade, narrow }): Network => {
    const subnet = IpNetwork.of(base, length);
    const hostPrefix = Math.min(length + longer, 30);
    const subnet6 = six && IpNetwork.of(six.base, six.length);
    const hostPrefix6 = subnet6 && parseHostPrefix(subnet6, undefined, 'x');
    const usual = parseRange(subnet, hostPrefix, undefined, undefined);
    return {
      name: 'blue',
      driver: 'overlay',
      backend: 'vxlan',
      subnet,
      hostPrefix,
      range: narrow ? { first: usual.last, last: usual.last } : usual,
      ...(subnet6 &&
        hostPrefix6 !== undefined && {
          subnet6,
          hostPrefix6,
          range6: parseRange(subnet6, hostPrefix6, undefined, undefined),
        }),
      vni,
      port,
      ...(mtu !== undefined && { mtu }),
      internal,
      masquerade,
    };
  });

test('every network reads back the same', (t) => {
  fc.assert(
    fc.property(network, (one) => t.deepEqual(plain(config(encodeConfig(one))), plain(one))),
    { numRuns: 300 },
  );
  t.pass();
});

const lease: fc.Arbitrary<StoredLease> = fc
  .record({
    base: ip4,
    length: fc.integer({ min: 20, max: 30 }),
    base6: fc.option(ip6, { nil: undefined }),
    publicIp: ip4,
    publicIp6: fc.option(ip6, { nil: undefined }),
    vtep: fc.option(vtep, { nil: undefined }),
    vtep6: fc.option(vtep, { nil: undefined }),
    node: fc.option(word, { nil: undefined }),
    instance: fc.option(word, { nil: undefined }),
    etcdLease: fc.constantFrom('0', '7587862094812'),
  })
  .map(({ base, length, base6, etcdLease, publicIp, ...rest }) => {
    const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== undefined));
    return {
      network: 'blue',
      subnet: IpNetwork.of(base, length),
      ...(base6 && { subnet6: IpNetwork.of(base6, 64) }),
      publicIp,
      backendType: 'vxlan',
      reservation: etcdLease === '0',
      etcdLease,
      ...given,
    };
  });

test('every lease reads back the same, key and value', (t) => {
  fc.assert(
    fc.property(lease, (one) => {
      const key = keys.parse(keys.lease('blue', one.subnet, one.subnet6));
      if (key.kind !== 'lease') return t.fail();
      t.deepEqual(plain(decodeLease(key, encodeLease(one), one.etcdLease)), plain(one));
    }),
    { numRuns: 300 },
  );
  t.pass();
});

test('every endpoint, claim and node reads back the same', (t) => {
  const text = fc.string({ minLength: 1, maxLength: 15 });
  fc.assert(
    fc.property(
      fc.record({
        name: word,
        node: word,
        target: text,
        ifname: text,
        mac: macAddress,
        aliases: fc.array(word),
        address: ip4,
        six: fc.option(ip6, { nil: undefined }),
        defaultRoute: fc.boolean(),
        explicitName: fc.boolean(),
      }),
      ({ address, six, ...rest }) => {
        const one: Endpoint = endpoint('blue', 'ab', {
          ...rest,
          ip: `${address.toString()}/24`,
          ...(six && { ip6: `${six.toString()}/64` }),
        });
        t.deepEqual(
          decodeEndpoint({ kind: 'endpoint', network: 'blue', id: 'ab' }, encodeEndpoint(one)),
          one,
        );
        const claim: Claim = {
          network: 'blue',
          ip: address,
          node: rest.node,
          endpoint: 'ab',
          state: 'refused',
          why: rest.target,
        };
        t.deepEqual(
          plain(decodeClaim({ kind: 'claim', network: 'blue', ip: address }, encodeClaim(claim))),
          plain(claim),
        );
        const node: NodeRecord = {
          name: rest.node,
          instance: rest.name,
          publicIp: address.toString(),
          ...(six && { publicIp6: six.toString() }),
          version: '1',
          startedAt: 'then',
        };
        t.deepEqual(decodeNode(rest.node, encodeNode(node)), node);
      },
    ),
  );
  t.pass();
});

test('no value whatever makes anything but a sentence', (t) => {
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.json(),
        fc.jsonValue().map((value) =>
          JSON.stringify({
            Network: value,
            PublicIP: value,
            Backend: { Type: 'vxlan', VNI: value },
            node: value,
            ip: value,
          }),
        ),
      ),
      (text) => {
        for (const decode of [
          () => config(text),
          () => decodeLease(leaseKey('10.5.52.0-24'), text, '1'),
          () => decodeEndpoint({ kind: 'endpoint', network: 'blue', id: 'ab' }, text),
          () => decodeClaim({ kind: 'claim', network: 'blue', ip: IpAddress.parse('10.0.0.1') }, text),
          () => decodeNode('n', text),
          () => occupiedBy(text),
        ]) {
          try {
            decode();
          } catch (error) {
            t.is((error as Error).name, 'UnreadableError', String(error));
          }
        }
      },
    ),
    { numRuns: 500 },
  );
  t.pass();
});
