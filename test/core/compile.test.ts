// Compile, as tables: a record beside its `ip` and `bridge` lines.
//
// Node n1 has 192.0.2.1 and the first subnet of its networks.
import test from 'ava';
import fc from 'fast-check';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { MAX_VNI } from '../../core/backends/types.js';
import { bridgeName, vtepMac, vxlanName } from '../../core/backends/vxlan.js';
import {
  compileClaim,
  compileEndpoint,
  compileFirewall,
  compileNetwork,
  compilePeer,
  compilePort,
  HOST_TARGET,
  containerMtu,
  hostIfname,
  macOf,
  ownGateways,
  type Membership,
} from '../../core/compile.js';
import { LINK_PREFIX, MAX_LINK_NAME, objectKey } from '../../core/objects/index.js';
import type { Endpoint, Lease, PublishedPort } from '../../core/records.js';
import { linesOf } from '../fakes/lines.js';
import { address } from './arbitraries.js';
import { claimOf, dataOf, endpointOf, hostGw, leaseOf, membershipOf, overlay } from './records.js';

const blue = overlay();
const dual = overlay({ subnet6: 'fd42:100::/48' });

test('a network over IPv4', (t) => {
  t.deepEqual(linesOf(compileNetwork(membershipOf(blue))), [
    'link wfbr4097 bridge address 02:77:0a:64:01:01 mtu 1450 alias "weft network blue"',
    'link wfvx4097 vxlan id 4097 local 192.0.2.1 dstport 8472 address 02:00:00:00:04:01 mtu 1450 alias "weft network blue"',
    'addr 10.100.1.0/32 dev wfvx4097',
    'addr 10.100.1.1/24 dev wfbr4097',
    'sysctl net/ipv4/neigh/wfbr4097/proxy_delay=0',
    'sysctl net/ipv4/conf/wfvx4097/forwarding=1',
    'sysctl net/ipv4/conf/wfbr4097/forwarding=1',
    'sysctl net/ipv4/ip_forward=1',
    'sysctl net/ipv4/conf/wfvx4097/route_localnet=1',
    'sysctl net/ipv4/conf/wfvx4097/rp_filter=2',
    'sysctl net/ipv4/conf/wfbr4097/route_localnet=1',
    'sysctl net/ipv4/conf/wfbr4097/rp_filter=2',
    'addr 169.254.53.53/32 dev wfbr4097',
  ]);
});

test('a network whose bridge is another program’s: the tunnel, its routes and its rules alone', (t) => {
  const membership: Membership = { ...membershipOf(dual), subnetOnly: true };
  const lines = linesOf(compileNetwork(membership));
  t.deepEqual(
    lines.filter((line) => line.includes('wfbr')),
    [],
  );
  t.true(lines.includes('addr 10.100.1.0/32 dev wfvx4097'));
  t.true(lines.includes('sysctl net/ipv4/ip_forward=1'));
  t.deepEqual(compilePeer(membership, leaseOf(dual, 2)), compilePeer(membershipOf(dual), leaseOf(dual, 2)));
  t.deepEqual(linesOf(compileClaim(membership, claimOf(dual, '10.100.1.77', 'n2'), leaseOf(dual, 2))), [
    'route 10.100.1.77/32 via 10.100.2.0 dev wfvx4097 onlink',
  ]);
  t.deepEqual(ownGateways(membership), []);
  const [rules] = compileFirewall([membership]).networks;
  t.like(rules, { links: ['wfvx4097', 'wfvx6-4097'], masquerade: true });
  const plain = { ...membershipOf(hostGw()), subnetOnly: true } as const;
  t.deepEqual(
    compileFirewall([plain]).networks.map(({ links, masquerade }) => [links, masquerade]),
    [[[], true]],
  );
});

test('a dual-stack network: a second tunnel, and the lower MTU for the containers', (t) => {
  t.deepEqual(linesOf(compileNetwork(membershipOf(dual))), [
    'link wfbr4097 bridge address 02:77:0a:64:01:01 mtu 1430 alias "weft network blue"',
    'link wfvx4097 vxlan id 4097 local 192.0.2.1 dstport 8472 address 02:00:00:00:04:01 mtu 1450 alias "weft network blue"',
    'addr 10.100.1.0/32 dev wfvx4097',
    'addr 10.100.1.1/24 dev wfbr4097',
    'sysctl net/ipv4/neigh/wfbr4097/proxy_delay=0',
    'sysctl net/ipv4/conf/wfvx4097/forwarding=1',
    'sysctl net/ipv4/conf/wfbr4097/forwarding=1',
    'sysctl net/ipv4/ip_forward=1',
    'sysctl net/ipv4/conf/wfvx4097/route_localnet=1',
    'sysctl net/ipv4/conf/wfvx4097/rp_filter=2',
    'sysctl net/ipv4/conf/wfbr4097/route_localnet=1',
    'sysctl net/ipv4/conf/wfbr4097/rp_filter=2',
    'link wfvx6-4097 vxlan id 4097 local 2001:db8::1 dstport 8472 address 02:00:00:00:06:01 mtu 1430 alias "weft network blue"',
    'addr fd42:100:0:1::/128 dev wfvx6-4097',
    'addr fd42:100:0:1::1/64 dev wfbr4097',
    'sysctl net/ipv6/neigh/wfbr4097/proxy_delay=0',
    'addr fe80::1/64 dev wfbr4097',
    'sysctl net/ipv6/conf/wfbr4097/proxy_ndp=1',
    'sysctl net/ipv6/conf/wfvx6-4097/forwarding=1',
    'sysctl net/ipv6/conf/wfbr4097/forwarding=1',
    'sysctl net/ipv6/conf/all/forwarding=1',
    'sysctl net/ipv6/conf/wfvx6-4097/disable_ipv6=0',
    'sysctl net/ipv6/conf/wfbr4097/disable_ipv6=0',
    'addr 169.254.53.53/32 dev wfbr4097',
  ]);
});

test('MTU: the underlay’s less the overhead, or a smaller requested one', (t) => {
  const cases: [underlay: number, asked: number | undefined, four: number, both: number][] = [
    [1500, undefined, 1450, 1430],
    [9000, undefined, 8950, 8930],
    [1400, undefined, 1350, 1330],
    [1500, 1300, 1300, 1300],
    [1500, 1440, 1440, 1430],
    // The underlay would silently drop a larger frame.
    [1500, 9000, 1450, 1430],
  ];
  for (const [mtu, asked, four, both] of cases) {
    const mtuField = asked === undefined ? {} : { mtu: asked };
    t.is(containerMtu(membershipOf(overlay(mtuField), { mtu })), four, `${mtu} ${asked}`);
    t.is(
      containerMtu(membershipOf(overlay({ ...mtuField, subnet6: 'fd42:100::/48' }), { mtu })),
      both,
      `${mtu} ${asked}`,
    );
  }
});

test('a tunnel has the network’s port and VNI', (t) => {
  const lines = linesOf(compileNetwork(membershipOf(overlay({ vni: 1, port: 4789 }))));
  t.true(lines.some((line) => line.startsWith('link wfvx1 vxlan id 1 local 192.0.2.1 dstport 4789 ')));
});

const PEERS: { what: string; in: Membership; peer: Lease; lines: string[] }[] = [
  {
    what: 'a peer over IPv4',
    in: membershipOf(blue),
    peer: leaseOf(blue, 2),
    lines: [
      'fdb 02:00:00:00:04:02 dst 192.0.2.2 dev wfvx4097',
      'neigh 10.100.2.0 lladdr 02:00:00:00:04:02 dev wfvx4097',
      'route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink',
    ],
  },
  {
    what: 'a peer of both families',
    in: membershipOf(dual),
    peer: leaseOf(dual, 2),
    lines: [
      'fdb 02:00:00:00:04:02 dst 192.0.2.2 dev wfvx4097',
      'neigh 10.100.2.0 lladdr 02:00:00:00:04:02 dev wfvx4097',
      'route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink',
      'fdb 02:00:00:00:06:02 dst 2001:db8::2 dev wfvx6-4097',
      'neigh fd42:100:0:2:: lladdr 02:00:00:00:06:02 dev wfvx6-4097',
      'route fd42:100:0:2::/64 via fd42:100:0:2:: dev wfvx6-4097 onlink',
    ],
  },
  {
    what: 'a peer of both families in a network of one',
    in: membershipOf(blue),
    peer: { ...leaseOf(dual, 2) },
    lines: [
      'fdb 02:00:00:00:04:02 dst 192.0.2.2 dev wfvx4097',
      'neigh 10.100.2.0 lladdr 02:00:00:00:04:02 dev wfvx4097',
      'route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink',
    ],
  },
  {
    what: 'a peer of IPv4 alone in a network of both',
    in: membershipOf(dual),
    peer: leaseOf(blue, 3),
    lines: [
      'fdb 02:00:00:00:04:03 dst 192.0.2.3 dev wfvx4097',
      'neigh 10.100.3.0 lladdr 02:00:00:00:04:03 dev wfvx4097',
      'route 10.100.3.0/24 via 10.100.3.0 dev wfvx4097 onlink',
    ],
  },
  {
    what: 'a smaller MTU than this node’s, in both families',
    in: membershipOf(dual),
    peer: leaseOf(dual, 2, { mtu: 1400 }),
    lines: [
      'fdb 02:00:00:00:04:02 dst 192.0.2.2 dev wfvx4097',
      'neigh 10.100.2.0 lladdr 02:00:00:00:04:02 dev wfvx4097',
      'route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink mtu 1350',
      'fdb 02:00:00:00:06:02 dst 2001:db8::2 dev wfvx6-4097',
      'neigh fd42:100:0:2:: lladdr 02:00:00:00:06:02 dev wfvx6-4097',
      'route fd42:100:0:2::/64 via fd42:100:0:2:: dev wfvx6-4097 onlink mtu 1330',
    ],
  },
  {
    what: 'a larger MTU than this node’s',
    in: membershipOf(blue),
    peer: leaseOf(blue, 2, { mtu: 9000 }),
    lines: [
      'fdb 02:00:00:00:04:02 dst 192.0.2.2 dev wfvx4097',
      'neigh 10.100.2.0 lladdr 02:00:00:00:04:02 dev wfvx4097',
      'route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink',
    ],
  },
  {
    what: 'a smaller MTU than this node’s, which still carries what the network asks for',
    in: membershipOf(overlay({ mtu: 1300 })),
    peer: leaseOf(blue, 2, { mtu: 1400 }),
    lines: [
      'fdb 02:00:00:00:04:02 dst 192.0.2.2 dev wfvx4097',
      'neigh 10.100.2.0 lladdr 02:00:00:00:04:02 dev wfvx4097',
      'route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink',
    ],
  },
  {
    what: 'a flanneld, which has no node name',
    in: membershipOf(blue),
    peer: (({ node: _node, instance: _instance, ...lease }) => lease)(leaseOf(blue, 4)),
    lines: [
      'fdb 02:00:00:00:04:04 dst 192.0.2.4 dev wfvx4097',
      'neigh 10.100.4.0 lladdr 02:00:00:00:04:04 dev wfvx4097',
      'route 10.100.4.0/24 via 10.100.4.0 dev wfvx4097 onlink',
    ],
  },
  {
    what: 'another VNI',
    in: membershipOf(blue),
    peer: leaseOf(blue, 2, dataOf(blue, 2, 1)),
    lines: [],
  },
  {
    what: 'another backend',
    in: membershipOf(blue),
    peer: leaseOf(blue, 2, { backendType: 'host-gw' }),
    lines: [],
  },
  {
    what: 'a reservation without a tunnel',
    in: membershipOf(blue),
    peer: (({ data: _data, ...lease }) => ({ ...lease, reservation: true }))(leaseOf(blue, 2)),
    lines: [],
  },
  {
    what: 'a subnet outside the network',
    in: membershipOf(blue),
    peer: leaseOf(blue, 2, { subnet: IpNetwork.parse('198.51.100.0/24') }),
    lines: [],
  },
  {
    what: 'a subnet inside this node’s own one',
    in: membershipOf(blue),
    peer: leaseOf(blue, 2, { subnet: IpNetwork.parse('10.100.1.128/25') }),
    lines: [],
  },
];

for (const { what, in: membership, peer, lines } of PEERS) {
  test(`peer: ${what}`, (t) => t.deepEqual(linesOf(compilePeer(membership, peer)), lines));
}

test('claim: a peer uses an address of this node’s subnet', (t) => {
  t.deepEqual(
    linesOf(compileClaim(membershipOf(blue), claimOf(blue, '10.100.1.9', 'n2'), leaseOf(blue, 2))),
    ['route 10.100.1.9/32 via 10.100.2.0 dev wfvx4097 onlink', 'neigh proxy 10.100.1.9 dev wfbr4097'],
  );
});

test('claim: a peer uses an address of another peer’s subnet', (t) => {
  t.deepEqual(
    linesOf(compileClaim(membershipOf(blue), claimOf(blue, '10.100.3.9', 'n2'), leaseOf(blue, 2))),
    ['route 10.100.3.9/32 via 10.100.2.0 dev wfvx4097 onlink'],
  );
});

test('claim: the route carries what the user’s node can', (t) => {
  const user = leaseOf(blue, 2, { mtu: 1400 });
  t.deepEqual(linesOf(compileClaim(membershipOf(blue), claimOf(blue, '10.100.3.9', 'n2'), user)), [
    'route 10.100.3.9/32 via 10.100.2.0 dev wfvx4097 onlink mtu 1350',
  ]);
});

test('claim: IPv6 takes the IPv6 tunnel alone', (t) => {
  const claim = claimOf(dual, 'fd42:100:0:1::9', 'n2');
  t.deepEqual(linesOf(compileClaim(membershipOf(dual), claim, leaseOf(dual, 2))), [
    'route fd42:100:0:1::9/128 via fd42:100:0:2:: dev wfvx6-4097 onlink',
    'neigh proxy fd42:100:0:1::9 dev wfbr4097',
  ]);
});

test('claim: nothing before it is granted, for this node’s own, or for a node without a subnet', (t) => {
  const membership = membershipOf(blue);
  t.deepEqual(compileClaim(membership, claimOf(blue, '10.100.1.9', 'n2', 'asked'), leaseOf(blue, 2)), []);
  t.deepEqual(compileClaim(membership, claimOf(blue, '10.100.1.9', 'n2', 'refused'), leaseOf(blue, 2)), []);
  t.deepEqual(compileClaim(membership, claimOf(blue, '10.100.2.9', 'n1'), leaseOf(blue, 1)), []);
  t.deepEqual(compileClaim(membership, claimOf(blue, '10.100.1.9', 'n2'), undefined), []);
});

test('an endpoint', (t) => {
  const endpoint = endpointOf(blue, '10.100.1.2/24', { id: '0123456789abcdef' });
  const { host, container } = compileEndpoint(membershipOf(blue), endpoint);
  t.deepEqual(linesOf(host), [
    'link wfep0123456789a veth master wfbr4097 mtu 1450 peer eth0 02:77:0a:64:01:02 alias "weft endpoint c1 of blue"',
    'fdb 02:77:0a:64:01:02 dev wfep0123456789a master wfbr4097 sticky',
    'neigh 10.100.1.2 lladdr 02:77:0a:64:01:02 dev wfbr4097',
  ]);
  t.deepEqual(linesOf(container), [
    'link lo loopback',
    'link eth0 peer address 02:77:0a:64:01:02 mtu 1450',
    'addr 10.100.1.2/24 dev eth0',
    'route 10.100.0.0/16 via 10.100.1.1 dev eth0',
    'route default via 10.100.1.1 dev eth0',
  ]);
});

test('the host as a member: addresses on the bridge, which are its source addresses', (t) => {
  const membership: Membership = {
    ...membershipOf(dual),
    exposed: { ip: '10.100.1.9', ip6: 'fd42:100:0:1::9' },
  };
  const endpoint = endpointOf(dual, '10.100.1.9/24', { target: HOST_TARGET, ip6: 'fd42:100:0:1::9/64' });
  const { host, container } = compileEndpoint(membership, endpoint);
  t.deepEqual(linesOf(host), [
    'addr 10.100.1.9/32 dev wfbr4097',
    'route 10.100.1.0/25 dev wfbr4097 src 10.100.1.9',
    'route 10.100.1.128/25 dev wfbr4097 src 10.100.1.9',
    'addr fd42:100:0:1::9/128 dev wfbr4097',
    'route fd42:100:0:1::/65 dev wfbr4097 src fd42:100:0:1::9',
    'route fd42:100:0:1:8000::/65 dev wfbr4097 src fd42:100:0:1::9',
  ]);
  t.deepEqual(container, []);
  const routes = linesOf(compilePeer(membership, leaseOf(dual, 2))).filter((line) =>
    line.startsWith('route'),
  );
  t.deepEqual(routes, [
    'route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink src 10.100.1.9',
    'route fd42:100:0:2::/64 via fd42:100:0:2:: dev wfvx6-4097 onlink src fd42:100:0:1::9',
  ]);
});

test('an endpoint of both families, second on its container, without the default route', (t) => {
  const endpoint = endpointOf(dual, '10.100.1.2/24', {
    ip6: 'fd42:100:0:1::2/64',
    ifname: 'eth1',
    defaultRoute: false,
  });
  t.deepEqual(linesOf(compileEndpoint(membershipOf(dual), endpoint).container), [
    'link lo loopback',
    'link eth1 peer address 02:77:0a:64:01:02 mtu 1430',
    'addr 10.100.1.2/24 dev eth1',
    'route 10.100.0.0/16 via 10.100.1.1 dev eth1',
    'sysctl net/ipv6/conf/eth1/disable_ipv6=0',
    'addr fd42:100:0:1::2/64 dev eth1',
    'route fd42:100::/48 via fd42:100:0:1::1 dev eth1',
  ]);
});

test('a node learns nothing that it knows of a container, but where others may have the address', (t) => {
  const endpoint = endpointOf(dual, '10.100.1.2/24', { ip6: 'fd42:100:0:1::2/64' });
  const known = (network: typeof dual, ...shared: string[]): string[] => {
    const prefixes = shared.map((text) => IpNetwork.parse(text));
    return linesOf(compileEndpoint(membershipOf(network), endpoint, false, prefixes).host)
      .filter((line) => /^(?:fdb|neigh) /.test(line))
      .map((line) => line.split(' ', 2).join(' '));
  };
  const fdb = `fdb ${endpoint.mac}`;
  t.deepEqual(known(dual), [fdb, 'neigh 10.100.1.2', 'neigh fd42:100:0:1::2']);
  t.deepEqual(known(dual, '10.100.1.0/28', '10.100.9.9/32'), [fdb, 'neigh fd42:100:0:1::2']);
  t.deepEqual(known({ ...dual, portSecurity: false }), []);
});

test('an endpoint with an address of another subnet: the route to the gateway comes first', (t) => {
  const endpoint = endpointOf(dual, '10.100.7.9/32', { id: '0123456789abcdef', ip6: 'fd42:100:0:7::9/128' });
  const { host, container } = compileEndpoint(membershipOf(dual), endpoint);
  t.deepEqual(linesOf(host).slice(2), [
    'neigh 10.100.7.9 lladdr 02:77:0a:64:07:09 dev wfbr4097',
    'route 10.100.7.9/32 dev wfbr4097',
    'neigh fd42:100:0:7::9 lladdr 02:77:0a:64:07:09 dev wfbr4097',
    'route fd42:100:0:7::9/128 dev wfbr4097',
  ]);
  t.deepEqual(linesOf(container).slice(2), [
    'addr 10.100.7.9/32 dev eth0',
    'route 10.100.1.1/32 dev eth0',
    'route 10.100.0.0/16 via 10.100.1.1 dev eth0',
    'route default via 10.100.1.1 dev eth0',
    'sysctl net/ipv6/conf/eth0/disable_ipv6=0',
    'addr fd42:100:0:7::9/128 dev eth0',
    'route fd42:100:0:1::1/128 dev eth0',
    'route fd42:100::/48 via fd42:100:0:1::1 dev eth0',
    'route default6 via fd42:100:0:1::1 dev eth0',
  ]);
});

test('the firewall of several networks, in an order that does not depend on the records’', (t) => {
  const red = overlay({ name: 'red', subnet: '10.101.0.0/16', vni: 4098, internal: true });
  const memberships = [membershipOf(red), membershipOf(dual)];
  const { networks } = compileFirewall(memberships);
  t.deepEqual(compileFirewall(memberships.toReversed()).networks, networks);
  t.deepEqual(
    networks.map(({ name, links, prefixes, internal, masquerade }) => [
      name,
      links,
      prefixes.map(String),
      internal,
      masquerade,
    ]),
    [
      ['blue', ['wfbr4097', 'wfvx4097', 'wfvx6-4097'], ['10.100.0.0/16', 'fd42:100::/48'], false, true],
      // Nothing leaves an internal network, so nothing is masqueraded.
      ['red', ['wfbr4098', 'wfvx4098'], ['10.101.0.0/16'], true, false],
    ],
  );
});

test('the firewall has routed networks, networks of other nodes, and tunnel ports', (t) => {
  const red = overlay({ name: 'red', subnet: '10.101.0.0/16', vni: 4098, routes: ['blue', 'safe', 'gone'] });
  const safe = overlay({ name: 'safe', subnet: '10.102.0.0/16', vni: 4099, internal: true, port: 4789 });
  const away = overlay({ name: 'away', subnet: '10.103.0.0/16', vni: 4100, routes: ['blue'] });
  const firewall = compileFirewall(
    [red, dual, safe].map((network) => membershipOf(network)),
    [red, dual, safe, away],
  );
  t.deepEqual(
    firewall.networks.map(({ name, tunnels, reaches = [], local = [] }) => [
      name,
      tunnels,
      reaches.map(String),
      local.map(String),
    ]),
    [
      ['blue', ['wfvx4097', 'wfvx6-4097'], ['10.101.0.0/16'], ['10.100.1.0/24', 'fd42:100:0:1::/64']],
      ['red', ['wfvx4098'], ['10.100.0.0/16', 'fd42:100::/48'], ['10.101.1.0/24']],
      // An internal network reaches nothing, whatever a record says.
      ['safe', ['wfvx4099'], [], ['10.102.1.0/24']],
    ],
  );
  t.deepEqual(firewall.others?.map(String), ['10.103.0.0/16']);
  t.deepEqual(firewall.tunnelPorts, [4789, 8472]);
});

test('a published port: an entry for each family, and the source address that its container sees', (t) => {
  const port = (hostIp: string): PublishedPort => ({
    hostIp,
    hostPort: 8080,
    port: 80,
    protocol: 'tcp',
    everywhere: false,
  });
  const both = endpointOf(dual, '10.100.1.2/24', { ip6: 'fd42:100:0:1::2/64' });
  const entry = (ip: string, clients: string, hostIp?: string): object => ({
    ...(hostIp === undefined ? {} : { hostIp }),
    hostPort: 8080,
    protocol: 'tcp',
    ip,
    port: 80,
    clients,
  });
  const compiled = (endpoint: Endpoint, hostIp = '0.0.0.0'): object[] =>
    compilePort(membershipOf(dual), endpoint, port(hostIp));
  t.deepEqual(compiled(both), [entry('10.100.1.2', 'themselves'), entry('fd42:100:0:1::2', 'themselves')]);
  t.deepEqual(compiled(both, '192.0.2.1'), [entry('10.100.1.2', 'themselves', '192.0.2.1')]);
  t.deepEqual(compiled(both, '2001:db8::1'), [entry('fd42:100:0:1::2', 'themselves', '2001:db8::1')]);
  t.deepEqual(compiled(both, '::'), [entry('fd42:100:0:1::2', 'themselves')]);
  t.deepEqual(compiled(endpointOf(dual, '10.100.1.2/24', { defaultRoute: false })), [
    entry('10.100.1.2', 'gateway'),
  ]);
  t.deepEqual(compiled(endpointOf(dual, '10.100.7.9/32')), [entry('10.100.7.9', 'itself')]);
  const away = endpointOf(dual, '10.100.7.9/24', { node: 'another', defaultRoute: false });
  t.deepEqual(compiled(away), [entry('10.100.7.9', 'themselves')]);
});

test('the link of an endpoint with published ports is in hairpin mode', (t) => {
  const published = endpointOf(blue, '10.100.1.2/24', {
    publish: [{ hostIp: '0.0.0.0', hostPort: 80, port: 80, protocol: 'tcp', everywhere: false }],
  });
  t.regex(linesOf(compileEndpoint(membershipOf(blue), published).host)[0] ?? '', / hairpin /);
  t.notRegex(
    linesOf(compileEndpoint(membershipOf(blue), endpointOf(blue, '10.100.1.2/24')).host)[0] ?? '',
    /hairpin/,
  );
});

test('link names fit into IFNAMSIZ, and differ by network and family', (t) => {
  const vni = fc.integer({ min: 1, max: MAX_VNI });
  fc.assert(
    fc.property(vni, vni, fc.stringMatching(/^[0-9a-f]{16}$/), (a, b, id) => {
      const names = [vxlanName(a, 4), vxlanName(a, 6), bridgeName(a), hostIfname(id)];
      for (const name of names) t.true(name.length <= MAX_LINK_NAME && name.startsWith(LINK_PREFIX), name);
      t.is(new Set(names).size, names.length);
      if (a !== b)
        t.false(names.some((name) => [vxlanName(b, 4), vxlanName(b, 6), bridgeName(b)].includes(name)));
    }),
  );
});

test('MAC addresses are local, unicast, and constant for an address or node', (t) => {
  fc.assert(
    fc.property(address(), (ip) => {
      t.regex(macOf(ip), /^02(:[0-9a-f]{2}){5}$/);
      t.is(macOf(ip), macOf(IpAddress.parse(ip.toString())));
    }),
  );
  t.regex(vtepMac('i', 'blue', 4), /^02(:[0-9a-f]{2}){5}$/);
  const macs = [
    vtepMac('i', 'blue', 4),
    vtepMac('i', 'blue', 6),
    vtepMac('j', 'blue', 4),
    vtepMac('i', 'red', 4),
  ];
  t.is(new Set(macs).size, 4);
  t.deepEqual(macs[0], vtepMac('i', 'blue', 4));
});

test('no two objects of a record share a key', (t) => {
  const membership = membershipOf(dual);
  const endpoint = compileEndpoint(
    membership,
    endpointOf(dual, '10.100.7.9/32', { ip6: 'fd42:100:0:7::9/128' }),
  );
  for (const objects of [
    compileNetwork(membership),
    compilePeer(membership, leaseOf(dual, 2)),
    endpoint.host,
    endpoint.container,
  ]) {
    t.is(new Set(objects.map((object) => objectKey(object))).size, objects.length);
  }
});
