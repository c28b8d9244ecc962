// Networks of IPv6 alone, and nodes whose underlay has no IPv4, on every backend.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import {
  compileClaim,
  compileEndpoint,
  compileNetwork,
  compilePeer,
  compilePort,
  containerMtu,
  HOST_TARGET,
  publicAddresses,
} from '../../core/compile.js';
import { driverOf, firstGateway, networkOf } from '../../core/drivers/index.js';
import type { WeftError } from '../../core/errors.js';
import { prefixesFrom, type Network } from '../../core/network.js';
import { linesOf } from '../fakes/lines.js';
import { claimOf, endpointOf, keyOf, leaseOf, membershipOf, membershipOfIpv6 } from './records.js';

const networkWith = (backend: 'vxlan' | 'host-gw' | 'wireguard', fields = {}): Network => ({
  ...networkOf({ name: 'six', backend, subnet: IpNetwork.parse('fd42:100::/48'), ...fields }),
  ...(backend === 'vxlan' ? { vni: 4097 } : {}),
});

const BACKENDS = [
  {
    backend: 'vxlan',
    mtu: 1430,
    bridge: 'wfbr4097',
    network: [
      'link wfvx6-4097 vxlan id 4097 local 2001:db8::1 dstport 8472 address 02:00:00:00:06:01 mtu 1430 alias "weft network six"',
      'addr fd42:100:0:1::/128 dev wfvx6-4097',
    ],
    peer: [
      'fdb 02:00:00:00:06:02 dst 2001:db8::2 dev wfvx6-4097',
      'neigh fd42:100:0:2:: lladdr 02:00:00:00:06:02 dev wfvx6-4097',
      'route fd42:100:0:2::/64 via fd42:100:0:2:: dev wfvx6-4097 onlink',
    ],
  },
  {
    backend: 'host-gw',
    mtu: 1500,
    bridge: 'wfbr-six',
    network: ['route unreachable fd42:100::/48'],
    peer: ['route fd42:100:0:2::/64 via 2001:db8::2 dev eth0'],
  },
  {
    backend: 'wireguard',
    mtu: 1420,
    bridge: 'wfbr-six',
    network: [
      'route unreachable fd42:100::/48',
      'link wfwg6-six wireguard mtu 1420 alias "weft network six"',
      `wg wfwg6-six listen-port 51821 key of ${keyOf('A')}`,
      'addr fd42:100:0:1::/128 dev wfwg6-six',
    ],
    peer: [
      `wg wfwg6-six peer ${keyOf('B')} endpoint [2001:db8::2]:51821`,
      `wg wfwg6-six peer ${keyOf('B')} allowed-ips fd42:100:0:2::/64`,
      'route fd42:100:0:2::/64 dev wfwg6-six',
    ],
  },
] as const;

for (const { backend, mtu, bridge, network: lines, peer } of BACKENDS) {
  const network = networkWith(backend, backend === 'wireguard' ? { port: 51_820 } : {});
  for (const [where, membership] of [
    ['on an underlay of IPv6 alone', membershipOfIpv6(network)],
    ['on an underlay of both families', membershipOf(network)],
  ] as const)
    test(`${backend} ${where}: nothing of IPv4`, (t) => {
      driverOf(network).checkUnderlay(network, membership.underlay);
      t.is(containerMtu(membership), mtu);
      t.is(firstGateway(membership)?.toString(), 'fd42:100:0:1::1');
      const compiled = linesOf(compileNetwork(membership));
      t.deepEqual(
        compiled.filter((line) => /ipv4|\d\.\d/.test(line)),
        [],
      );
      t.deepEqual(
        compiled.filter((line) => !line.startsWith('sysctl') && !line.includes(bridge)),
        lines as unknown as string[],
      );
      t.true(compiled.includes(`addr fd42:100:0:1::1/64 dev ${bridge}`));
      const lease = leaseOf(network, 2);
      t.deepEqual(linesOf(compilePeer(membership, lease)), peer as unknown as string[]);
      const [probe] = driverOf(network).probes(membership, lease);
      t.true(probe !== undefined && 'address' in probe, JSON.stringify(probe));
      const claim = claimOf(network, 'fd42:100:0:1::77', 'n2');
      t.true(
        linesOf(compileClaim(membership, claim, lease)).includes(
          `neigh proxy fd42:100:0:1::77 dev ${bridge}`,
        ),
      );
    });
}

const six = networkWith('vxlan');

test('a container has its IPv6 address, route and port, and no route of IPv4', (t) => {
  const membership = membershipOfIpv6(six);
  const endpoint = endpointOf(six, 'fd42:100:0:1::2/64');
  t.deepEqual(linesOf(compileEndpoint(membership, endpoint).container), [
    'link lo loopback',
    `link eth0 peer address ${endpoint.mac} mtu 1430`,
    'sysctl net/ipv6/conf/eth0/disable_ipv6=0',
    'addr fd42:100:0:1::2/64 dev eth0',
    'route fd42:100::/48 via fd42:100:0:1::1 dev eth0',
    'route default6 via fd42:100:0:1::1 dev eth0',
  ]);
  const published = {
    hostIp: '0.0.0.0',
    hostPort: 8080,
    port: 80,
    protocol: 'tcp',
    everywhere: false,
  } as const;
  t.deepEqual(
    compilePort(membership, endpoint, published).map(({ ip }) => ip),
    ['fd42:100:0:1::2'],
  );
});

test('the host as a member sends from its IPv6 address', (t) => {
  const membership = { ...membershipOfIpv6(six), exposed: { ip: 'fd42:100:0:1::9' } };
  t.deepEqual(linesOf(compilePeer(membership, leaseOf(six, 2))).slice(-1), [
    'route fd42:100:0:2::/64 via fd42:100:0:2:: dev wfvx6-4097 onlink src fd42:100:0:1::9',
  ]);
  const host = endpointOf(six, 'fd42:100:0:1::9/64', { target: HOST_TARGET });
  t.true(linesOf(compileEndpoint(membership, host).host).includes('addr fd42:100:0:1::9/128 dev wfbr4097'));
});

test('one device of WireGuard carries IPv4 over an underlay that has none', (t) => {
  const network = networkOf({
    name: 'wg',
    backend: 'wireguard',
    subnet: IpNetwork.parse('10.120.0.0/16'),
    subnet6: IpNetwork.parse('fd42:120::/48'),
    port: 51_820,
    backendOptions: { Mode: 'auto' },
  });
  const membership = membershipOfIpv6(network);
  driverOf(network).checkUnderlay(network, membership.underlay);
  const peer = { ...leaseOf(network, 2), publicIp: IpAddress.parse('2001:db8::2') };
  t.deepEqual(
    linesOf(compilePeer(membership, peer)).filter((line) => line.includes('endpoint')),
    [4, 6].map(() => `wg wfwg-wg peer ${keyOf('B')} endpoint [2001:db8::2]:51820`),
  );
});

test('a node without the family that carries the network is refused, with what helps', (t) => {
  const four = networkOf({ name: 'four', subnet: IpNetwork.parse('10.100.0.0/16') });
  const dual = networkOf({
    name: 'dual',
    subnet: IpNetwork.parse('10.100.0.0/16'),
    subnet6: IpNetwork.parse('fd42:100::/48'),
  });
  const { ip6: _none, ...only4 } = membershipOf(four).underlay;
  const only6 = membershipOfIpv6(four).underlay;
  for (const [network, underlay, why, next] of [
    [
      four,
      only6,
      'network four is of IPv4, and this node has no IPv4 address on the underlay',
      /IPv4 address, or name it with --underlay-ip\.$/,
    ],
    [
      six,
      only4,
      'network six is of IPv6, and this node has no IPv6 address on the underlay',
      /IPv6 address, or name it with --underlay-ip\.$/,
    ],
    [
      dual,
      only4,
      'network dual is dual stack, and this node has no IPv6 address on the underlay',
      /both with --underlay-ip IP,IP6/,
    ],
    [
      dual,
      only6,
      'network dual is dual stack, and this node has no IPv4 address on the underlay',
      /both with --underlay-ip IP,IP6/,
    ],
  ] as const) {
    const error = t.throws<WeftError>(() => driverOf(network).checkUnderlay(network, underlay));
    t.is(error.message, why);
    t.regex(error.next ?? '', next);
  }
});

test('prefixes as people give them: one of each family, or one of the two', (t) => {
  const subnet = IpNetwork.parse('10.100.0.0/16');
  const subnet6 = IpNetwork.parse('fd42:100::/48');
  t.deepEqual(prefixesFrom({ subnet, subnet6, hostPrefix: 24, hostPrefix6: 64 }), {
    ...{ subnet, subnet6, hostPrefix: 24, hostPrefix6: 64 },
  });
  t.deepEqual(prefixesFrom({ subnet6, hostPrefix6: 60 }), { subnet: subnet6, hostPrefix: 60 });
  t.throws(() => prefixesFrom({}), { message: /^subnet: not given/ });
  t.throws(() => prefixesFrom({ subnet6, hostPrefix: 24 }), { message: /^host-prefix: .*no IPv4 subnet/ });
  t.throws(() => prefixesFrom({ subnet, hostPrefix6: 64 }), { message: /^host-prefix6: .*no IPv6 subnet/ });
});

test('--public-ip replaces the address of its own family alone', (t) => {
  const { underlay } = membershipOfIpv6(six);
  const nat = { ip: IpAddress.parse('203.0.113.1'), ip6: IpAddress.parse('2001:db8:1::1') };
  t.deepEqual(publicAddresses({ ...underlay, nat }), { ip: nat.ip6 });
  t.deepEqual(publicAddresses({ ...underlay, nat: { ip: nat.ip } }), { ip: underlay.ip });
});
