// Backends: the contract of all of them, and host-gw as `ip` lines.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { backendOf, BACKEND_TYPES, UNSERVED_BACKENDS } from '../../core/backends/index.js';
import type { BackendType } from '../../core/backends/types.js';
import {
  compileClaim,
  compileFirewall,
  compileNetwork,
  compilePeer,
  compilePort,
  containerMtu,
  type Membership,
} from '../../core/compile.js';
import { describeNetwork, driverOf, isBridged, networkOf } from '../../core/drivers/index.js';
import type { WeftError } from '../../core/errors.js';
import type { Network, OverlayNetwork } from '../../core/network.js';
import { decodeConfig, encodeConfig } from '../../store/network-codec.js';
import { linesOf } from '../fakes/lines.js';
import { claimOf, endpointOf, hostGw, leaseOf, membershipOf, overlay, wireguard } from './records.js';

const networkWith = (backend: BackendType, name: string, third: number): Network =>
  networkOf({ name, backend, subnet: IpNetwork.parse(`10.${third}.0.0/16`) });

for (const type of BACKEND_TYPES) {
  test(`${type}: a config encodes as flannel's Backend and decodes to the same`, (t) => {
    const wanted = networkWith(type, 'blue', 100) as OverlayNetwork;
    const text = encodeConfig(backendOf(type).allocate(wanted, [], () => 0));
    t.is(JSON.parse(text).Backend.Type, type);
    const read = decodeConfig('blue', text);
    t.is(isBridged(read) ? undefined : read.backend, type);
    t.is(encodeConfig({ ...read }), text);
    const given = decodeConfig('blue', text.replace(`"${type}"`, `"${type.toUpperCase()}"`));
    t.is(isBridged(given) ? undefined : given.backend, type, 'flannel takes the type in any case');
  });

  test(`${type}: owners of its devices, and an MTU that leaves room for its headers`, (t) => {
    const { devices, overhead } = backendOf(type);
    const linksOf = (network: Network): string[] => {
      const membership = membershipOf(network);
      return driverOf(network).tunnels(membership);
    };
    const vni = (n: number): object => (type === 'vxlan' ? { vni: n } : {});
    const a = linksOf({ ...networkWith(type, 'a', 100), ...vni(1) });
    const b = linksOf({ ...networkWith(type, 'b', 101), ...vni(2) });
    if (devices === 'none') t.deepEqual([...a, ...b], []);
    if (devices === 'network')
      t.deepEqual(
        a.filter((link) => b.includes(link)),
        [],
      );
    if (devices === 'node') t.deepEqual(a, b);
    t.is(containerMtu(membershipOf({ ...networkWith(type, 'a', 100), ...vni(1) })), 1500 - overhead[4]);
  });

  test(`${type}: an option of another backend is refused with the reason`, (t) => {
    const { options, summary } = backendOf(type);
    const values = { vni: 9, port: 9, directRouting: true } as const;
    const flags = { vni: 'vni', port: 'port', directRouting: 'direct-routing' } as const;
    for (const option of ['vni', 'port', 'directRouting'] as const) {
      const spec = {
        name: 'blue',
        backend: type,
        subnet: IpNetwork.parse('10.100.0.0/16'),
        [option]: values[option],
      };
      if (options.includes(option)) {
        t.notThrows(() => networkOf(spec));
        continue;
      }
      const { message, next } = t.throws<WeftError>(() => networkOf(spec));
      t.is(message, `${flags[option]}: the backend ${type} has none: it ${summary}`);
      t.regex(next ?? '', /Leave it out, or give --backend vxlan/);
    }
  });

  test(`${type}: a word that flannel's backend does not have is refused with those that it has`, (t) => {
    const spec = {
      name: 'blue',
      backend: type,
      subnet: IpNetwork.parse('10.100.0.0/16'),
      backendOptions: { Colour: 'blue' },
    };
    const { message, next } = t.throws<WeftError>(() => networkOf(spec));
    t.is(message, `backend-option: the backend ${type} has no Colour`);
    for (const word of backendOf(type).words) t.true(next?.includes(word));
  });
}

test('a backend is supported, or known and not supported', (t) => {
  t.deepEqual(
    BACKEND_TYPES.filter((type) => UNSERVED_BACKENDS.includes(type)),
    [],
  );
});

const gw = hostGw();
const dual = hostGw({ subnet6: 'fd42:110::/48' });

test('host-gw: a bridge and no device', (t) => {
  const lines = linesOf(compileNetwork(membershipOf(gw))).filter((line) => !line.startsWith('sysctl'));
  t.deepEqual(lines, [
    'link wfbr-gw bridge address 02:77:0a:6e:01:01 mtu 1500 alias "weft network gw"',
    'route unreachable 10.110.0.0/16',
    'addr 10.110.1.1/24 dev wfbr-gw',
    'addr 169.254.53.53/32 dev wfbr-gw',
  ]);
});

const PEERS: {
  what: string;
  in: Membership;
  peer: ReturnType<typeof leaseOf>;
  lines: string[];
  why?: RegExp;
}[] = [
  {
    what: 'on the link',
    in: membershipOf(gw),
    peer: leaseOf(gw, 2),
    lines: ['route 10.110.2.0/24 via 192.0.2.2 dev eth0'],
  },
  {
    what: 'whose underlay carries less',
    in: membershipOf(gw),
    peer: leaseOf(gw, 2, { mtu: 1400 }),
    lines: ['route 10.110.2.0/24 via 192.0.2.2 dev eth0 mtu 1400'],
  },
  {
    what: 'of both families',
    in: membershipOf(dual),
    peer: leaseOf(dual, 2),
    lines: ['route 10.110.2.0/24 via 192.0.2.2 dev eth0', 'route fd42:110:0:2::/64 via 2001:db8::2 dev eth0'],
  },
  {
    what: 'behind a router',
    in: membershipOf(gw),
    peer: leaseOf(gw, 2, { publicIp: IpAddress.parse('198.51.100.2') }),
    lines: [],
    why: /198\.51\.100\.2 is not on a link of this node \(eth0: 192\.0\.2\.0\/24, 2001:db8::\/64\)/,
  },
  {
    what: 'behind a router that is known',
    in: membershipOf(gw, {
      routers: [
        { prefix: IpNetwork.parse('0.0.0.0/0'), via: IpAddress.parse('192.0.2.254') },
        { prefix: IpNetwork.parse('198.51.100.0/24'), via: IpAddress.parse('192.0.2.253') },
      ],
    }),
    peer: leaseOf(gw, 2, { publicIp: IpAddress.parse('198.51.100.2') }),
    lines: [],
    why: /198\.51\.100\.2 is behind the router 192\.0\.2\.253 and is not on a link/,
  },
  {
    what: 'on the link, to which a route through a router is longer than its prefix',
    in: membershipOf(gw, {
      routers: [{ prefix: IpNetwork.parse('192.0.2.2/32'), via: IpAddress.parse('192.0.2.253') }],
    }),
    peer: leaseOf(gw, 2),
    lines: [],
    why: /behind the router 192\.0\.2\.253/,
  },
  {
    what: 'on another link of the node',
    in: membershipOf(gw, {
      onLink: [{ link: 'eth1', prefix: IpNetwork.parse('198.51.100.0/24') }],
    }),
    peer: leaseOf(gw, 2, { publicIp: IpAddress.parse('198.51.100.2') }),
    lines: ['route 10.110.2.0/24 via 198.51.100.2 dev eth1'],
  },
  {
    what: 'with a subnet of another network',
    in: membershipOf(gw),
    peer: { ...leaseOf(gw, 2), subnet: IpNetwork.parse('10.111.2.0/24') },
    lines: [],
    why: /not in the network/,
  },
  {
    what: 'where the host is exposed',
    in: { ...membershipOf(gw), exposed: { ip: '10.110.1.9' } },
    peer: leaseOf(gw, 2),
    lines: ['route 10.110.2.0/24 via 192.0.2.2 dev eth0 src 10.110.1.9'],
  },
];
for (const { what, in: membership, peer, lines, why } of PEERS) {
  test(`host-gw, a peer ${what}`, (t) => {
    t.deepEqual(linesOf(compilePeer(membership, peer)), lines);
    const [probe] = driverOf(membership.network).probes(membership, peer);
    if (why !== undefined)
      t.regex(probe !== undefined && 'unreachable' in probe ? probe.unreachable : '', why);
    else t.is(probe !== undefined && 'address' in probe ? probe.address.toString() : '', '10.110.2.1');
  });
}

test('host-gw: another backend’s lease, or a reservation, is no peer', (t) => {
  const membership = membershipOf(gw);
  for (const fields of [{ backendType: 'vxlan' }, { publicIp: IpAddress.parse('0.0.0.0') }]) {
    t.deepEqual(compilePeer(membership, leaseOf(gw, 2, fields)), []);
    t.deepEqual(driverOf(gw).probes(membership, leaseOf(gw, 2, fields)), []);
  }
});

test('host-gw: an address that a peer uses outside its subnet', (t) => {
  t.deepEqual(linesOf(compileClaim(membershipOf(gw), claimOf(gw, '10.110.1.77', 'n2'), leaseOf(gw, 2))), [
    'route 10.110.1.77/32 via 192.0.2.2 dev eth0',
    'neigh proxy 10.110.1.77 dev wfbr-gw',
  ]);
});

test('host-gw: the firewall has its bridge, no tunnel and no port', (t) => {
  const { networks, tunnelPorts } = compileFirewall([membershipOf(gw), membershipOf(overlay())]);
  t.deepEqual(
    networks.map(({ name, links, tunnels }) => [name, links, tunnels]),
    [
      ['blue', ['wfbr4097', 'wfvx4097'], ['wfvx4097']],
      ['gw', ['wfbr-gw'], []],
    ],
  );
  t.deepEqual(tunnelPorts, [8472]);
});

test('host-gw: traffic to a port of another node’s container is masqueraded, so that replies return', (t) => {
  const published = { hostIp: '0.0.0.0', hostPort: 80, port: 80, protocol: 'tcp', everywhere: true } as const;
  const away = (network: Network, ip: string) =>
    compilePort(membershipOf(network), endpointOf(network, ip, { node: 'n2' }), published).map(
      ({ clients }) => clients,
    );
  t.deepEqual(away(gw, '10.110.2.5/24'), ['gateway']);
  t.deepEqual(away(overlay(), '10.100.2.5/24'), ['themselves']);
});

const direct = (subnet6?: string): Network =>
  overlay({ directRouting: true, ...(subnet6 === undefined ? {} : { subnet6 }) });
const FAR = { publicIp: IpAddress.parse('198.51.100.2') };

test('vxlan with direct routing: a neighbour has a route and no tunnel, another peer the tunnel', (t) => {
  t.deepEqual(
    linesOf(compilePeer(membershipOf(direct('fd42:100::/48')), leaseOf(direct('fd42:100::/48'), 2))),
    ['route 10.100.2.0/24 via 192.0.2.2 dev eth0', 'route fd42:100:0:2::/64 via 2001:db8::2 dev eth0'],
  );
  const tunnelled = compilePeer(membershipOf(overlay()), leaseOf(overlay(), 2, FAR));
  t.deepEqual(compilePeer(membershipOf(direct()), leaseOf(direct(), 2, FAR)), tunnelled);
  t.is(tunnelled.length, 3);
  t.is(containerMtu(membershipOf(direct())), 1450, 'the tunnel is there for others');
});

test('vxlan with direct routing: a claimed address goes the way of its user', (t) => {
  const claim = claimOf(direct(), '10.100.9.77', 'n2');
  const routes = (peer: ReturnType<typeof leaseOf>) =>
    linesOf(compileClaim(membershipOf(direct()), claim, peer));
  t.deepEqual(routes(leaseOf(direct(), 2)), ['route 10.100.9.77/32 via 192.0.2.2 dev eth0']);
  t.deepEqual(routes(leaseOf(direct(), 2, FAR)), ['route 10.100.9.77/32 via 10.100.2.0 dev wfvx4097 onlink']);
});

test('vxlan with direct routing: flannel’s word, ports masqueraded, and no internal network', (t) => {
  const spec = {
    name: 'blue',
    subnet: IpNetwork.parse('10.100.0.0/16'),
    directRouting: true,
  } as const;
  const network = { ...networkOf(spec), vni: 7 } as Network;
  const text = encodeConfig(network);
  t.is(JSON.parse(text).Backend.DirectRouting, true);
  t.like(decodeConfig('blue', text), { directRouting: true });
  t.like(describeNetwork(network), { backend: 'vxlan', directRouting: true, encrypted: false });
  t.throws(() => networkOf({ ...spec, internal: true }), { message: /with direct routing, its packets/ });
  const published = { hostIp: '0.0.0.0', hostPort: 80, port: 80, protocol: 'tcp', everywhere: true } as const;
  const [port] = compilePort(
    membershipOf(direct()),
    endpointOf(direct(), '10.100.2.5/24', { node: 'n2' }),
    published,
  );
  t.is(port?.clients, 'gateway');
});

test('host-gw: an internal network is refused, since its packets use the hosts’ own link', (t) => {
  const spec = {
    name: 'gw',
    backend: 'host-gw',
    subnet: IpNetwork.parse('10.110.0.0/16'),
    internal: true,
  } as const;
  t.throws(() => networkOf(spec), {
    message: /cannot have host-gw: its packets arrive by the hosts' own link/,
  });
});

test('networks that move at the same time share a VXLAN port, and a port of what is beside is taken', (t) => {
  const [first, second] = ['first', 'second'].map((name, i) => ({
    ...hostGw({ name }),
    beside: overlay({ name, vni: 100 + i }),
  }));
  if (first === undefined || second === undefined) return t.fail();
  const driver = driverOf(first);
  t.notThrows(() => driver.checkBeside(first, [second, overlay({ name: 'third', vni: 102 })]));
  t.throws(() => driver.checkBeside(first, [overlay({ name: 'third', vni: 100 })]), { message: /VNI 100/ });
  const encrypted = wireguard({ name: 'encrypted', port: 8472 });
  t.throws(() => driver.checkBeside(first, [encrypted]), { message: /UDP port 8472 is network encrypted's/ });
});

const sky = networkOf({
  name: 'sky',
  backend: 'aws-vpc',
  subnet: IpNetwork.parse('10.130.0.0/16'),
  backendOptions: { RouteTableID: 'rtb-1, rtb-2' },
}) as OverlayNetwork<'aws-vpc'>;
const ROUTERS = {
  routers: [
    { prefix: IpNetwork.parse('198.51.100.0/24'), via: IpAddress.parse('192.0.2.253') },
    { prefix: IpNetwork.parse('0.0.0.0/0'), via: IpAddress.parse('192.0.2.254') },
    { prefix: IpNetwork.parse('::/0'), via: IpAddress.parse('2001:db8::254') },
  ],
};

test('aws-vpc: a peer is behind the router of the default route, on the link or not', (t) => {
  const at = membershipOf(sky, ROUTERS);
  for (const publicIp of ['192.0.2.2', '198.51.100.2'])
    t.deepEqual(
      linesOf(compilePeer(at, leaseOf(sky, 2, { publicIp: IpAddress.parse(publicIp), mtu: 1400 }))),
      ['route 10.130.2.0/24 via 192.0.2.254 dev eth0 mtu 1400'],
    );
  t.deepEqual(linesOf(compileClaim(at, claimOf(sky, '10.130.1.77', 'n2'), leaseOf(sky, 2))), [
    'route 10.130.1.77/32 via 192.0.2.254 dev eth0',
    'neigh proxy 10.130.1.77 dev wfbr-sky',
  ]);
  const lines = linesOf(compileNetwork(at));
  t.true(lines.includes('route unreachable 10.130.0.0/16'));
  t.false(lines.some((line) => line.includes('wfvx')));
});

test('aws-vpc: without a router the peer is named as unreachable', (t) => {
  const at = membershipOf(sky);
  t.deepEqual(compilePeer(at, leaseOf(sky, 2)), []);
  const [probe] = driverOf(sky).probes(at, leaseOf(sky, 2));
  t.regex(
    probe !== undefined && 'unreachable' in probe ? probe.unreachable : '',
    /no route through a router on eth0, and the cloud's network is behind it/,
  );
});

test('aws-vpc: flannel’s RouteTableID, as a text and as a list', (t) => {
  const given = (RouteTableID: unknown): Network =>
    decodeConfig(
      'sky',
      JSON.stringify({ Network: '10.130.0.0/16', Backend: { Type: 'aws-vpc', RouteTableID } }),
    );
  const encoded = (network: Network): unknown => JSON.parse(encodeConfig({ ...network })).Backend;
  t.deepEqual(encoded(given('rtb-1')), { Type: 'aws-vpc', RouteTableID: 'rtb-1' });
  t.deepEqual(encoded(given(['rtb-1', 'rtb-2'])), { Type: 'aws-vpc', RouteTableID: ['rtb-1', 'rtb-2'] });
  t.deepEqual(encoded(given('')), { Type: 'aws-vpc' });
  t.deepEqual(encoded(sky), { Type: 'aws-vpc', RouteTableID: ['rtb-1', 'rtb-2'] });
  t.throws(() => given('tableau'), { message: /RouteTableID: "tableau"; expected the id of a route table/ });
  t.throws(() => given(7), { message: /RouteTableID/ });
});

for (const backend of ['aws-vpc', 'gce'] as const) {
  test(`${backend}: neither IPv6 nor an internal network`, (t) => {
    const spec = { name: 'sky', backend, subnet: IpNetwork.parse('10.130.0.0/16') };
    t.throws(() => networkOf({ ...spec, subnet6: IpNetwork.parse('fd42:130::/48') }), {
      message: /IPv4 alone/,
    });
    t.throws(() => networkOf({ ...spec, subnet: IpNetwork.parse('fd42:130::/48') }), {
      message: /IPv4 alone/,
    });
    t.throws(() => networkOf({ ...spec, internal: true }), { message: /the hosts' own link/ });
    const byHand = { EnableIPv6: true, IPv6Network: 'fd42:130::/48', Network: '10.130.0.0/16' };
    t.throws(() => decodeConfig('sky', JSON.stringify({ ...byHand, Backend: { Type: backend } })), {
      message: `fd42:130::/48: the backend ${backend} carries no IPv6`,
    });
  });

  test(`${backend}: a flanneld’s lease without a BackendType is a peer, one of another backend is not`, (t) => {
    const network = networkOf({ name: 'sky', backend, subnet: IpNetwork.parse('10.130.0.0/16') });
    const at = membershipOf(network, ROUTERS);
    t.is(compilePeer(at, leaseOf(network, 2, { backendType: '' })).length, 1);
    t.deepEqual(compilePeer(at, leaseOf(network, 2, { backendType: 'vxlan' })), []);
    const reservation = { backendType: '', publicIp: IpAddress.parse('0.0.0.0') };
    t.deepEqual(compilePeer(at, leaseOf(network, 2, reservation)), []);
  });
}

test('host-gw: a lease without a BackendType is no peer', (t) => {
  t.deepEqual(compilePeer(membershipOf(gw), leaseOf(gw, 2, { backendType: '' })), []);
});
