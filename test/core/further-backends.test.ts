// The backends udp and ipip, and the routes of a host beside a network.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { backendOf } from '../../core/backends/index.js';
import {
  compileClaim,
  compileFirewall,
  compileNetwork,
  compilePeer,
  containerMtu,
} from '../../core/compile.js';
import { describeNetwork, driverOf, isBridged, networkOf } from '../../core/drivers/index.js';
import {
  classifyRoute,
  type HostRoute,
  type RouteRelation,
  routesBeside,
  routesText,
} from '../../core/host-routes.js';
import { areRouted, type Network } from '../../core/network.js';
import { type KernelObject, objectKey, type PumpPrefixObject, sameObject } from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { compileFou } from '../../core/port-security.js';
import { decodeLease, encodeLease } from '../../store/lease-codec.js';
import { decodeConfig, encodeConfig } from '../../store/network-codec.js';
import { linesOf } from '../fakes/lines.js';
import { leaseKey } from '../store/lease-key.js';
import { bridged, claimOf, ipip, leaseOf, membershipOf, overlay, udp } from './records.js';

// The backend udp: objects as `ip` lines, flannel's formats, ports, and what is refused.

const ud = udp();

test('udp: a device, its pump, and everything else of the network unreachable', (t) => {
  const lines = linesOf(compileNetwork(membershipOf(ud))).filter((line) => !line.startsWith('sysctl'));
  t.deepEqual(lines, [
    'link wfbr-ud bridge address 02:77:0a:6e:01:01 mtu 1472 alias "weft network ud"',
    'route unreachable 10.110.0.0/16',
    'link wfud-ud tun mtu 1472 alias "weft network ud"',
    'addr 10.110.1.0/32 dev wfud-ud',
    'pump wfud-ud local 192.0.2.1 port 8285',
    'addr 10.110.1.1/24 dev wfbr-ud',
    'addr 169.254.53.53/32 dev wfbr-ud',
  ]);
  t.is(containerMtu(membershipOf(ud)), 1472);
});

test('udp: a peer is its address and its subnet; a claimed address is taken from its user', (t) => {
  t.deepEqual(linesOf(compilePeer(membershipOf(ud), leaseOf(ud, 2))), [
    'pump wfud-ud peer 192.0.2.2 prefix 10.110.2.0/24',
    'route 10.110.2.0/24 dev wfud-ud',
  ]);
  t.is(
    linesOf(compilePeer(membershipOf(ud), leaseOf(ud, 2, { mtu: 1400 }))).at(-1),
    'route 10.110.2.0/24 dev wfud-ud mtu 1372',
  );
  t.deepEqual(linesOf(compileClaim(membershipOf(ud), claimOf(ud, '10.110.1.77', 'n2'), leaseOf(ud, 2))), [
    'pump wfud-ud peer 192.0.2.2 prefix 10.110.1.77/32',
    'route 10.110.1.77/32 dev wfud-ud',
    'neigh proxy 10.110.1.77 dev wfbr-ud',
  ]);
});

test('udp: beside another backend it receives, before a route leads to it', (t) => {
  const moving = { ...overlay({ name: 'ud', subnet: '10.110.0.0/16' }), beside: ud } as Network;
  const membership = membershipOf(moving, {}, leaseOf(moving, 1, { beside: { backendType: 'udp' } }));
  const peer = leaseOf(moving, 2, { beside: { backendType: 'udp' } });
  const lines = linesOf([...compileNetwork(membership), ...compilePeer(membership, peer)]);
  for (const line of [
    'pump wfud-ud local 192.0.2.1 port 8285',
    'pump wfud-ud peer 192.0.2.2 prefix 10.110.2.0/24',
  ])
    t.true(lines.includes(line), line);
  t.false(lines.some((line) => line.startsWith('route') && line.includes('wfud')));
});

test('udp: flannel’s words, with and without a port', (t) => {
  const read = (backend: object): unknown => {
    const network = decodeConfig('ud', JSON.stringify({ Network: '10.110.0.0/16', Backend: backend }));
    return isBridged(network) ? undefined : describeNetwork(network).port;
  };
  t.is(read({ Type: 'udp' }), 8285);
  t.is(read({ Type: 'UDP', port: 9000 }), 9000);
  t.deepEqual(JSON.parse(encodeConfig(ud)).Backend, { Type: 'udp', Port: 8285 });
  t.throws(() => read({ Type: 'udp', Port: 'x' }), { message: /Port/ });
  const dual = { Network: '10.110.0.0/16', IPv6Network: 'fd42:110::/48', EnableIPv6: true };
  t.throws(() => decodeConfig('ud', JSON.stringify({ ...dual, Backend: { Type: 'udp' } })), {
    message: /the backend udp carries no IPv6/,
  });
});

test('udp: a lease has no BackendType for flannel, and says its backend to weft', (t) => {
  const own = JSON.parse(encodeLease(leaseOf(ud, 2)));
  t.false('BackendType' in own);
  t.is(own.Weft.BackendType, 'udp');
  t.is(decodeLease(leaseKey('10.110.2.0-24'), JSON.stringify(own), '77').backendType, 'udp');
  const flannels = decodeLease(leaseKey('10.110.3.0-24'), '{"PublicIP":"192.0.2.3","PublicIPv6":null}', '77');
  t.deepEqual(linesOf(compilePeer(membershipOf(ud), flannels)), [
    'pump wfud-ud peer 192.0.2.3 prefix 10.110.3.0/24',
    'route 10.110.3.0/24 dev wfud-ud',
  ]);
  t.deepEqual(compilePeer(membershipOf(overlay({ subnet: '10.110.0.0/16' })), flannels), []);
  const reserved = decodeLease(leaseKey('10.110.4.0-24'), '{}', '0');
  t.deepEqual(compilePeer(membershipOf(ud), reserved), []);
});

test('udp: ports of their own, chosen and given', (t) => {
  const others = [{ name: 'first', ports: [8285] }];
  const open = networkOf({ name: 'ud', backend: 'udp', subnet: IpNetwork.parse('10.110.0.0/16') });
  t.like(
    backendOf('udp').allocate(open as typeof ud, others, () => 0),
    { port: 8286 },
  );
  t.throws(() => driverOf(ud).checkBeside(ud, [udp({ name: 'first', subnet: '10.111.0.0/16' })]), {
    message: "network ud: UDP port 8285 is network first's",
  });
});

test('udp: it is routed with no network; the firewall has its device as a tunnel, and its port', (t) => {
  t.false(areRouted(overlay({ routes: ['ud'] }), ud));
  const { networks, tunnelPorts } = compileFirewall([membershipOf(ud)]);
  t.deepEqual(networks[0]?.tunnels, ['wfud-ud']);
  t.deepEqual(tunnelPorts, [8285]);
  t.is(networks[0]?.sealed, undefined);
});

test('udp: where the kernel is the pump, a device for IP in UDP, with the peers as gateways', (t) => {
  const membership = { ...membershipOf(ud), fou: true } as const;
  const lines = linesOf(compileNetwork(membership));
  for (const line of [
    'link wfud-ud ipip local 192.0.2.1 remote any encap fou 8285 mtu 1472 alias "weft network ud"',
    'addr 10.110.1.0/32 dev wfud-ud',
    'pump wfud-ud local 192.0.2.1 port 8285 fou',
  ])
    t.true(lines.includes(line), line);
  t.deepEqual(linesOf(compilePeer(membership, leaseOf(ud, 2))), [
    'pump wfud-ud peer 192.0.2.2 prefix 10.110.2.0/24',
    'route 10.110.2.0/24 via 192.0.2.2 dev wfud-ud onlink',
  ]);
  t.is(driverOf(udp({ port: 8286 })).fou(udp({ port: 8286 })), undefined, 'of one port alone');
  t.deepEqual(compileFirewall([membership]).fou, {
    ...{ link: 'wfud-ud', port: 8285 },
    prefixes: [ud.subnet],
  });
  t.is(compileFirewall([membershipOf(ud)]).fou, undefined);
  const [prefix] = compilePeer(membership, leaseOf(ud, 2)).filter(({ kind }) => kind === 'pump-prefix');
  t.like(compileFou(prefix as PumpPrefixObject), { addresses: ['192.0.2.2'] });
});

test('udp: from the process to the kernel and back, device and pump are made anew, in this order', (t) => {
  const [user, kernel] = [membershipOf(ud), { ...membershipOf(ud), fou: true } as const].map(compileNetwork);
  if (user === undefined || kernel === undefined) return t.fail();
  for (const [before, after] of [
    [user, kernel],
    [kernel, user],
  ] as const) {
    const { steps } = plan(assume(before), after, { prune: true });
    const told = steps.map((step) => (step.do === 'put' ? `put ${step.object.kind}` : step.do));
    const order = ['delete-link', 'create-link', 'put address', 'put pump'];
    t.deepEqual(
      told.filter((one) => order.includes(one)),
      order,
    );
    t.false(told.includes('delete'));
  }
});

test('udp: another address of the node replaces the pump', (t) => {
  const moved = membershipOf(ud, { ip: IpAddress.parse('192.0.2.9') });
  t.true(linesOf(compileNetwork(moved)).includes('pump wfud-ud local 192.0.2.9 port 8285'));
});

// The backend ipip: objects as `ip` lines, one device for all networks, flannel's formats, and what is refused.

const one = ipip();
const two = ipip({ name: 'two', subnet: '10.111.0.0/16' });
const FAR = { publicIp: IpAddress.parse('198.51.100.2') };

const tunnelLines = (objects: readonly KernelObject[]): string[] =>
  linesOf(objects).filter((line) => !line.startsWith('sysctl'));

test('ipip: a device, an address in the network, and everything else of it unreachable', (t) => {
  t.deepEqual(tunnelLines(compileNetwork(membershipOf(one))), [
    'link wfbr-ip bridge address 02:77:0a:6e:01:01 mtu 1480 alias "weft network ip"',
    'route unreachable 10.110.0.0/16',
    'link wfipip ipip local 192.0.2.1 remote any mtu 1480 alias "weft ipip"',
    'addr 10.110.1.0/32 dev wfipip',
    'addr 10.110.1.1/24 dev wfbr-ip',
    'addr 169.254.53.53/32 dev wfbr-ip',
  ]);
  t.is(containerMtu(membershipOf(one)), 1480);
});

test('ipip: a peer is the gateway of its subnet on the device, and this node’s address there the source', (t) => {
  t.deepEqual(linesOf(compilePeer(membershipOf(one), leaseOf(one, 2))), [
    'route 10.110.2.0/24 via 192.0.2.2 dev wfipip onlink src 10.110.1.0',
  ]);
  const exposed = { ...membershipOf(one), exposed: { ip: '10.110.1.20' } };
  t.deepEqual(linesOf(compilePeer(exposed, leaseOf(one, 2, { mtu: 1400 }))), [
    'route 10.110.2.0/24 via 192.0.2.2 dev wfipip onlink src 10.110.1.20 mtu 1380',
  ]);
});

test('ipip: all networks of a node have one device, which the last of them takes along', (t) => {
  const [first, second] = [one, two].map((network) => compileNetwork(membershipOf(network))) as [
    KernelObject[],
    KernelObject[],
  ];
  const keys = new Map(first.map((object) => [objectKey(object), object]));
  const shared = second.filter((object) => keys.has(objectKey(object)));
  t.true(shared.some((object) => object.kind === 'link' && object.name === 'wfipip'));
  for (const object of shared) t.true(sameObject(object, keys.get(objectKey(object)) ?? object));
  const gone = plan(assume([...first, ...second]), second, { prune: true }).steps;
  t.false(gone.some((step) => step.do === 'delete-link' && step.name === 'wfipip'));
  t.true(plan(assume(second), [], { prune: true }).steps.some((step) => step.do === 'delete-link'));
});

test('ipip with direct routing: a neighbour has a route of its own, another peer the tunnel', (t) => {
  const direct = ipip({ directRouting: true });
  t.deepEqual(linesOf(compilePeer(membershipOf(direct), leaseOf(direct, 2))), [
    'route 10.110.2.0/24 via 192.0.2.2 dev eth0',
  ]);
  t.regex(linesOf(compilePeer(membershipOf(direct), leaseOf(direct, 2, FAR))).join(), /dev wfipip onlink/);
});

test('ipip: the firewall tells its networks apart by addresses, and knows the node’s source in each', (t) => {
  const { networks, tunnelPorts } = compileFirewall([one, two].map((network) => membershipOf(network)));
  t.deepEqual(
    networks.map(({ links, tunnels, shared }) => ({ links, tunnels, shared })),
    [
      { links: ['wfbr-ip'], tunnels: [], shared: { link: 'wfipip', source: '10.110.1.0' } },
      { links: ['wfbr-two'], tunnels: [], shared: { link: 'wfipip', source: '10.111.1.0' } },
    ],
  );
  t.deepEqual(tunnelPorts, []);
  t.true(areRouted(ipip({ name: 'a' }), { ...overlay({ name: 'b' }), routes: ['a'] }));
});

test('ipip: flannel’s words and leases', (t) => {
  t.deepEqual(JSON.parse(encodeConfig(one)).Backend, { Type: 'ipip' });
  t.like(JSON.parse(encodeConfig(ipip({ directRouting: true }))).Backend, { DirectRouting: true });
  const read = decodeConfig(
    'x',
    '{"Network":"10.110.0.0/16","Backend":{"Type":"ipip","directrouting":true}}',
  );
  t.like(read, { backend: 'ipip', directRouting: true });
  const flannels = decodeLease(
    leaseKey('10.110.3.0-24'),
    '{"PublicIP":"192.0.2.3","PublicIPv6":null,"BackendType":"ipip"}',
    '77',
  );
  t.is(compilePeer(membershipOf(one), flannels).length, 1);
});

test('ipip: no IPv6, no internal network, no port', (t) => {
  const create = (more: object) => () =>
    networkOf({ name: 'x', backend: 'ipip', subnet: IpNetwork.parse('10.110.0.0/16'), ...more });
  t.throws(create({ subnet6: IpNetwork.parse('fd42:110::/48') }), { message: /carries IPv4 alone/ });
  t.throws(create({ internal: true }), { message: /all of a node's ipip networks share/ });
  t.throws(create({ port: 5000 }), { message: /the backend ipip has none/ });
});

test('ipip: another program’s device for the same address is in the way, one to a single peer is not', (t) => {
  const conflicts = (remote?: string) => {
    const other: KernelObject = {
      ...{ kind: 'link', type: 'ipip', name: 'flannel.ipip', alias: '', mtu: 1480, local: '192.0.2.1' },
      ...(remote !== undefined && { remote }),
    };
    const actual = {
      ...assume([]),
      objects: new Map([[objectKey(other), { object: other, owned: false }]]),
      unownedLinks: new Set(['flannel.ipip']),
    };
    return plan(actual, compileNetwork(membershipOf(one)), { prune: true }).conflicts;
  };
  const [conflict] = conflicts();
  t.regex(
    conflict?.why ?? '',
    /flannel\.ipip, which weft did not make, is the tunnel for IP in IP of 192\.0\.2\.1/,
  );
  t.regex(conflict?.fix ?? '', /ip link delete flannel\.ipip\. Else move the networks to another backend/);
  t.deepEqual(conflicts('198.51.100.9'), []);
});

// Routes of a host beside a network: how they lie to it, and what follows.

const blue = overlay({ subnet: '10.100.0.0/16', subnet6: 'fd42:100::/48', vni: 4097 });
const theirs = {
  ...leaseOf(blue, 7),
  publicIp: IpAddress.parse('192.0.2.7'),
};

const route = (to: string, more: Partial<HostRoute> = {}): HostRoute => ({
  to: IpNetwork.parse(to),
  link: 'eth0',
  isLan: false,
  isOwn: false,
  ...more,
});

const relations: [string, HostRoute, RouteRelation][] = [
  ['the network itself', route('10.100.0.0/16'), 'equals'],
  ['a part of it', route('10.100.200.0/25'), 'inside'],
  ['one host', route('10.100.200.1/32'), 'inside'],
  ['a company’s route around it', route('10.0.0.0/8'), 'contains'],
  ['the network beside it', route('10.101.0.0/16'), 'apart'],
  ['the other family', route('fd42:100::/48'), 'apart'],
  ['weft’s own', route('10.100.7.0/24', { link: 'wfvx4097', isOwn: true }), 'own'],
  ['by flannel’s device of this VNI', route('10.100.8.0/24', { link: 'flannel.4097' }), 'flannel'],
  [
    'by flannel’s device of another VNI, to a lease',
    route('10.100.7.0/24', { link: 'flannel.1' }),
    'flannel',
  ],
  [
    'by flannel’s device of another VNI, to nothing known',
    route('10.100.8.0/24', { link: 'flannel.1' }),
    'inside',
  ],
  ['as flannel’s host-gw, to a lease', route('10.100.7.0/24', { via: '192.0.2.7' }), 'flannel'],
  ['to a lease, by another router', route('10.100.7.0/24', { via: '192.0.2.8' }), 'inside'],
];

for (const [what, given, expected] of relations)
  test(`a route is ${expected}: ${what}`, (t) => {
    t.is(classifyRoute(given, blue.subnet, blue, [theirs]), expected);
  });

test('a subnet keeps out of LANs, and of routes that it would swallow', (t) => {
  const lan = route('10.100.16.0/20', { link: 'eth1', isLan: true });
  const wide = route('10.100.32.0/20', { via: '192.0.2.254' });
  const narrow = route('10.100.48.0/26', { via: '192.0.2.254' });
  const equal = route('10.100.49.0/24', { via: '192.0.2.254' });
  const six = route('fd42:100:0:5::/64', { link: 'eth1', isLan: true });
  const { inside, around, avoid } = routesBeside(
    blue,
    [lan, wide, narrow, equal, six, route('10.0.0.0/8')],
    [],
  );
  t.deepEqual(inside, [lan, wide, narrow, equal, six]);
  t.deepEqual(around, [route('10.0.0.0/8')]);
  t.deepEqual(avoid.map(String), ['10.100.16.0/20', '10.100.48.0/26', '10.100.49.0/24', 'fd42:100:0:5::/64']);
});

test('a LAN that contains the network keeps nobody out', (t) => {
  const lan = route('10.0.0.0/8', { link: 'eth1', isLan: true });
  t.deepEqual(routesBeside(blue, [lan], []), { inside: [], around: [lan], avoid: [] });
});

test('a default route in two halves contains nothing', (t) => {
  t.deepEqual(routesBeside(blue, [route('0.0.0.0/1'), route('128.0.0.0/1')], []).around, []);
});

test('a network with a parent is the hosts’ LAN; one without has its addresses to itself', (t) => {
  const lan = route('198.51.100.0/24', { link: 'eth1', isLan: true });
  t.deepEqual(routesBeside(bridged('bridge', { parent: 'eth1' }), [lan], []).inside, []);
  t.deepEqual(routesBeside(bridged('bridge'), [lan], []).inside, [lan]);
  t.deepEqual(routesBeside(bridged('vlan', { vlan: 100 }), [lan], []).inside, []);
});

test('routes as text: the first three', (t) => {
  const all = [1, 2, 3, 4, 5].map((n) => route(`10.100.${n}.0/24`, { via: '192.0.2.254' }));
  t.is(routesText(all.slice(0, 1)), '10.100.1.0/24 via 192.0.2.254 dev eth0');
  t.is(
    routesText([route('10.100.1.7/32', { link: 'lo', table: 'local' })]),
    '10.100.1.7/32 dev lo table local',
  );
  t.regex(routesText(all), /^10\.100\.1\.0.*10\.100\.3\.0\/24 via 192\.0\.2\.254 dev eth0 and 2 more$/);
});
