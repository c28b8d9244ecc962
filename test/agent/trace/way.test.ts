// The points of a packet's way on one node, and what the kernel says stands in it.
import test from 'ava';

import { networkOf } from '../../../core/drivers/index.js';
import { IpNetwork } from '../../../core/address.js';
import type {
  Listener,
  NamespaceTrace,
  TraceLink,
  TraceNeighbour,
  TraceRoute,
} from '../../../agent/kernel/index.js';
import { lookAt, wayOf, type End, type WayOptions } from '../../../agent/trace/way.js';
import type { TracePeers } from '../../../agent/trace/peers.js';
import type { ProbePoint } from '../../../proto/gen/weft/v1/trace.js';
import { endpoint } from '../../controller/records.js';

const link = (name: string, more: Partial<TraceLink> = {}): TraceLink => ({
  ...{ index: 1, name, up: true, running: true, mtu: 1500, mac: `mac of ${name}`, ethernet: true, kind: '' },
  ...more,
});

interface Facts {
  links: TraceLink[];
  routes: Record<string, TraceRoute>;
  neighbours: Partial<TraceNeighbour>[];
}

const place = ({ links, routes, neighbours }: Facts) => {
  const trace: Pick<NamespaceTrace, 'links' | 'neighbours' | 'route'> = {
    links: () => links,
    neighbours: () =>
      neighbours.map((one) => ({ link: '', ip: '', isKnown: true, isPermanent: false, ...one })),
    route: (to) => routes[to] ?? { errno: 'ENETUNREACH' },
  };
  return lookAt(trace as NamespaceTrace);
};

const C1 = endpoint('c1', 'blue', 'h1', {
  name: 'c1',
  hostIfname: 'wfep1',
  ip: '10.100.5.2/24',
  mac: 'mac of c1',
});
const C3 = endpoint('c3', 'blue', 'h1', {
  name: 'c3',
  hostIfname: 'wfep3',
  ip: '10.100.5.3/24',
  mac: 'mac of c3',
});
const [OWN, GATEWAY, NEAR, FAR] = ['10.100.5.2', '10.100.5.1', '10.100.5.3', '10.100.43.2'];
const BLUE = { network: networkOf({ name: 'blue', subnet: IpNetwork.parse('10.100.0.0/16') }) };

const container = (): Facts => ({
  links: [link('lo'), link('eth0', { mtu: 1450, kind: 'veth' })],
  routes: {
    [OWN]: { link: 'lo', isLocal: true },
    [NEAR]: { link: 'eth0', isLocal: false },
    [FAR]: { link: 'eth0', isLocal: false, via: GATEWAY },
  },
  neighbours: [
    { link: 'eth0', ip: GATEWAY, mac: 'mac of bridge' },
    { link: 'eth0', ip: NEAR, mac: 'mac of c3' },
  ],
});

const node = (): Facts => ({
  links: [
    link('eth0'),
    link('bridge', { kind: 'bridge' }),
    link('tunnel', { kind: 'vxlan', mtu: 1450 }),
    ...['wfep1', 'wfep3'].map((name) => link(name, { kind: 'veth', master: 'bridge' })),
  ],
  routes: {
    [OWN]: { link: 'bridge', isLocal: false },
    [FAR]: { link: 'tunnel', isLocal: false, via: '10.100.43.0' },
    '192.0.2.12': { link: 'eth0', isLocal: false },
  },
  neighbours: [
    { link: 'tunnel', ip: '10.100.43.0', mac: 'vtep', isPermanent: true, tunnel: '192.0.2.12' },
    { link: 'eth0', ip: '192.0.2.12', mac: 'mac of h2' },
    { link: 'bridge', ip: OWN, mac: 'mac of c1', isPermanent: true },
  ],
});

interface Case {
  inside?: (facts: Facts) => void;
  outside?: (facts: Facts) => void;
  other?: string;
  otherHere?: WayOptions['otherHere'];
  end?: Partial<End>;
  options?: Partial<WayOptions>;
}

function way({ inside, outside, other = FAR, otherHere, end, options }: Case = {}) {
  const [own, host] = [container(), node()];
  inside?.(own);
  outside?.(host);
  const peers: Partial<TracePeers> = {
    ofLink: (name) => (['bridge', 'tunnel'].includes(name) ? (BLUE as never) : undefined),
    isTunnel: (name) => name === 'tunnel',
    isEncrypted: () => false,
    parentOf: () => undefined,
    at: () => ({ network: 'blue', underlay: { ip: '192.0.2.12', advice: 'UDP 8472' } }),
  };
  return wayOf(
    {
      ...{ place: 'from', own: OWN, other, endpoints: [C1], inside: place(own), listeners: [], port: 0 },
      ...end,
    },
    {
      ...{ node: 'h1', host: place(host), peers: peers as TracePeers, size: 84, otherHere },
      filter: { family: 4, protocol: 'icmp', tag: 1, size: 84 },
      ...options,
    },
  );
}

const shown = (points: readonly ProbePoint[]): string[] =>
  points.map(({ place: at, link: name, out, what }) => `${at} ${name || '-'} ${out ? 'out' : 'in'} ${what}`);
const obstacles = (points: readonly ProbePoint[]): string[] =>
  points.flatMap(({ what, obstacle }) => (obstacle === undefined ? [] : [`${what}: ${obstacle.reason}`]));

test('to another node: by bridge, tunnel and underlay; and in, by the same', (t) => {
  const { out, in: into } = way();
  t.deepEqual(shown(out), [
    ...['from eth0 out container', 'host wfep1 in port', 'host bridge in bridge'],
    ...['host tunnel out tunnel', 'host eth0 out underlay'],
  ]);
  t.deepEqual(shown(into), [
    ...['host eth0 in underlay', 'host tunnel in tunnel', 'host bridge out bridge'],
    ...['host wfep1 out port', 'from eth0 in container', 'from - in end'],
  ]);
  t.deepEqual([obstacles(out), obstacles(into)], [[], []]);
  t.like(out.at(-1), { nextIp: '192.0.2.12', nextMac: 'mac of h2', advice: 'UDP 8472' });
});

test('to a neighbour on the bridge, which passes it on', (t) => {
  const { out } = way({ other: NEAR, otherHere: [C3] });
  t.deepEqual(shown(out), ['from eth0 out container', 'host wfep1 in port']);
});

const CASES: readonly (readonly [title: string, found: string, of: Case])[] = [
  [
    'a blackhole',
    'container: c1 has no way to 10.100.43.2: a blackhole route, or a source address that is not its own',
    { inside: ({ routes }) => (routes[FAR] = { errno: 'EINVAL' }) },
  ],
  [
    'a link that is down',
    'container: eth0 in c1 is down',
    { inside: ({ links }) => (links[1] = link('eth0', { up: false })) },
  ],
  ['no link', 'container: c1 has no interface eth0', { inside: ({ links }) => links.pop() }],
  [
    'a large packet',
    'container: packets of 1500 bytes are larger than the MTU of eth0 in c1, 1450',
    { options: { size: 1500 } },
  ],
  [
    'no gateway',
    'container: nobody answers for 10.100.5.1 at eth0 in c1',
    { inside: ({ neighbours }) => (neighbours[0] = { link: 'eth0', ip: GATEWAY, isKnown: false }) },
  ],
  [
    'another route',
    'container: a route in c1 takes packets to 10.100.43.2 to tun0, which is not of weft',
    { inside: ({ routes }) => (routes[FAR] = { link: 'tun0', isLocal: false }) },
  ],
  [
    'an address twice',
    'container: c1 has 10.100.43.2 itself, and sends nothing to the other that has it',
    { inside: ({ routes }) => (routes[FAR] = { link: 'lo', isLocal: true }) },
  ],
  [
    'a wrong neighbour',
    'port: 10.100.5.3 is answered for by another than c3',
    {
      other: NEAR,
      otherHere: [C3],
      inside: ({ neighbours }) => (neighbours[1] = { link: 'eth0', ip: NEAR, mac: 'mac of twin' }),
    },
  ],
  [
    'no forwarding',
    'route: node h1 has no way to 10.100.43.2: an unreachable route, or forwarding is off',
    { outside: ({ routes }) => (routes[FAR] = { errno: 'EHOSTUNREACH' }) },
  ],
  [
    'no cable',
    'underlay: eth0 on node h1 has no carrier',
    { outside: ({ links }) => (links[0] = link('eth0', { running: false })) },
  ],
  [
    'no other node',
    'underlay: nobody answers for 192.0.2.12 at eth0 on node h1',
    { outside: ({ neighbours }) => (neighbours[1] = { link: 'eth0', ip: '192.0.2.12', isKnown: false }) },
  ],
];

for (const [title, found, of] of CASES)
  test(`an obstacle on the way out: ${title}`, (t) => {
    t.is(obstacles(way(of).out)[0], found);
  });

test('obstacles on the way in: a link that is down, an address that is gone or another’s, nobody', (t) => {
  const arrives = (of: Case): string[] => obstacles(way(of).in);
  t.deepEqual(arrives({ inside: ({ links }) => (links[1] = link('eth0', { up: false })) }), [
    'container: eth0 in c1 is down',
  ]);
  t.deepEqual(arrives({ inside: ({ routes }) => delete routes[OWN] }), [
    'end: 10.100.5.2 is not an address of c1 any more',
  ]);
  t.deepEqual(
    arrives({
      outside: ({ neighbours }) => (neighbours[2] = { link: 'bridge', ip: OWN, mac: 'mac of twin' }),
    }),
    ['bridge: 10.100.5.2 is answered for by another than c1'],
  );
  const nobody: Case = {
    end: { place: 'to', own: '10.100.5.9', endpoints: [], inside: place(node()) },
    outside: ({ routes }) => (routes['10.100.5.9'] = { link: 'bridge', isLocal: false }),
  };
  t.deepEqual(arrives(nobody), ['bridge: nobody has 10.100.5.9 on node h1']);
});

test('nobody listens, or at the loopback only; a socket of IPv6 takes IPv4, too', (t) => {
  const closed = (...listeners: Partial<Listener>[]): string | undefined =>
    way({
      end: {
        ...{ place: 'to', port: 80 },
        listeners: listeners.map((one) => ({ protocol: 'tcp', port: 80, family: 4, reach: 'any', ...one })),
      },
      options: { filter: { family: 4, protocol: 'tcp', tag: 1, size: 40 } },
    }).closed?.why;
  t.is(closed({}), undefined);
  t.is(closed({ family: 6 }), undefined);
  t.is(closed({ reach: 'address' }), undefined);
  t.regex(closed({ reach: 'loopback' }) ?? '', /the loopback alone/);
  t.is(closed({ port: 81 }, { protocol: 'udp' }), 'no process has that port');
});
