// Routes of a host beside a network: how they lie to it, and what follows.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import {
  classifyRoute,
  routesBeside,
  routesText,
  type HostRoute,
  type RouteRelation,
} from '../../core/host-routes.js';
import { bridged, leaseOf, overlay } from './records.js';

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
