// The backend wireguard: objects as `wg` and `ip` lines, flannel's formats, ports, and what is refused.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { backendOf, leaseDataFor } from '../../core/backends/index.js';
import {
  compileClaim,
  compileFirewall,
  compileNetwork,
  compilePeer,
  containerMtu,
} from '../../core/compile.js';
import { describeNetwork, driverOf, networkOf } from '../../core/drivers/index.js';
import { areRouted, type Network, type NetworkSpec, type OverlayNetwork } from '../../core/network.js';
import { assume, plan } from '../../core/plan.js';
import { describeObject, objectKey } from '../../core/objects/index.js';
import { decodeConfig, encodeConfig } from '../../store/network-codec.js';
import { decodeLease, encodeLease } from '../../store/lease-codec.js';
import { UnreadableError } from '../../core/parse.js';
import { linesOf } from '../fakes/lines.js';
import { claimOf, dataOf, keyOf, leaseOf, membershipOf, overlay, wireguard } from './records.js';

const wg = wireguard();
const dual = wireguard({ subnet6: 'fd42:120::/48' });
const DUAL = { subnet6: 'fd42:120::/48' };
const PSK = keyOf('P');

const wgLines = (lines: string[]): string[] => lines.filter((line) => !line.startsWith('sysctl'));

test('wireguard: a device with the node’s key, and everything else of the network unreachable', (t) => {
  t.deepEqual(wgLines(linesOf(compileNetwork(membershipOf(wg)))), [
    'link wfbr-wg bridge address 02:77:0a:78:01:01 mtu 1440 alias "weft network wg"',
    'route unreachable 10.120.0.0/16',
    'link wfwg-wg wireguard mtu 1440 alias "weft network wg"',
    `wg wfwg-wg listen-port 51820 key of ${keyOf('A')}`,
    'addr 10.120.1.0/32 dev wfwg-wg',
    'addr 10.120.1.1/24 dev wfbr-wg',
    'addr 169.254.53.53/32 dev wfbr-wg',
  ]);
});

test('wireguard: a peer is its key, its address and its subnet', (t) => {
  t.deepEqual(linesOf(compilePeer(membershipOf(wg), leaseOf(wg, 2))), [
    `wg wfwg-wg peer ${keyOf('B')} endpoint 192.0.2.2:51820`,
    `wg wfwg-wg peer ${keyOf('B')} allowed-ips 10.120.2.0/24`,
    'route 10.120.2.0/24 dev wfwg-wg',
  ]);
});

test('wireguard: a route has the MTU that a peer’s underlay leaves to the packets', (t) => {
  const peer = leaseOf(wg, 2, { mtu: 1400 });
  t.is(linesOf(compilePeer(membershipOf(wg), peer)).at(-1), 'route 10.120.2.0/24 dev wfwg-wg mtu 1340');
});

test('wireguard: a claimed address is taken from its user alone, with a route of its own', (t) => {
  t.deepEqual(linesOf(compileClaim(membershipOf(wg), claimOf(wg, '10.120.1.77', 'n2'), leaseOf(wg, 2))), [
    `wg wfwg-wg peer ${keyOf('B')} allowed-ips 10.120.1.77/32`,
    'route 10.120.1.77/32 dev wfwg-wg',
    'neigh proxy 10.120.1.77 dev wfbr-wg',
  ]);
});

const MODES = [
  {
    mode: undefined,
    mtu: 1420,
    tunnels: ['wfwg-wg', 'wfwg6-wg'],
    peers: [`wfwg-wg ${keyOf('B')} 192.0.2.2:51820`, `wfwg6-wg ${keyOf('B')} [2001:db8::2]:51821`],
  },
  { mode: 'auto', mtu: 1420, tunnels: ['wfwg-wg'], peers: [`wfwg-wg ${keyOf('B')} 192.0.2.2:51820`] },
  { mode: 'ipv4', mtu: 1440, tunnels: ['wfwg-wg'], peers: [`wfwg-wg ${keyOf('B')} 192.0.2.2:51820`] },
  { mode: 'ipv6', mtu: 1420, tunnels: ['wfwg-wg'], peers: [`wfwg-wg ${keyOf('B')} [2001:db8::2]:51820`] },
] as const;
for (const { mode, mtu, tunnels, peers } of MODES) {
  test(`wireguard, mode ${mode ?? 'separate'}: devices, endpoints, MTU, and the true port in the records`, (t) => {
    const network = wireguard({ ...DUAL, ...(mode === undefined ? {} : { mode }) });
    const membership = membershipOf(network);
    t.deepEqual(driverOf(network).tunnels(membership), tunnels as unknown as string[]);
    t.is(containerMtu(membership), mtu);
    const objects = compilePeer(membership, leaseOf(network, 2));
    const found = objects.flatMap((object) =>
      object.kind === 'wireguard-peer' ? [`${object.link} ${object.publicKey} ${object.endpoint}`] : [],
    );
    t.deepEqual([...new Set(found)], peers as unknown as string[]);
    t.deepEqual(
      objects.flatMap((object) => (object.kind === 'wireguard-prefix' ? [object.to] : [])),
      ['10.120.2.0/24', 'fd42:120:0:2::/64'],
    );
    const keys = { current: () => keyOf('A'), next: () => undefined };
    const data = leaseDataFor(network, { instance: 'i', keys }, [4, 6]);
    t.like(data, { 6: { port: mode === undefined ? 51821 : 51820 } });
    t.deepEqual(driverOf(network).udpPorts(network), mode === undefined ? [51820, 51821] : [51820]);
  });
}

test('wireguard, one device: a flanneld’s record says another port for IPv6, and that of IPv4 counts', (t) => {
  const network = wireguard({ ...DUAL, mode: 'ipv6' });
  const data = {
    type: 'wireguard',
    4: { publicKey: keyOf('B'), port: 51820 },
    6: { publicKey: keyOf('B'), port: 51821 },
  } as const;
  const [peer] = compilePeer(membershipOf(network), leaseOf(network, 2, { data }));
  t.like(peer, { endpoint: '[2001:db8::2]:51820' });
});

test('wireguard: a key that a peer is about to take is known, and gets its prefixes with the change', (t) => {
  const membership = membershipOf(wg);
  const lease = (publicKey: string, nextPublicKey?: string) =>
    leaseOf(wg, 2, {
      data: { type: 'wireguard', 4: { publicKey, port: 51820, ...(nextPublicKey && { nextPublicKey }) } },
    });
  const before = compilePeer(membership, lease(keyOf('B'), keyOf('C')));
  t.deepEqual(linesOf(before), [
    `wg wfwg-wg peer ${keyOf('B')} endpoint 192.0.2.2:51820`,
    `wg wfwg-wg peer ${keyOf('C')} endpoint 192.0.2.2:51820`,
    `wg wfwg-wg peer ${keyOf('B')} allowed-ips 10.120.2.0/24`,
    'route 10.120.2.0/24 dev wfwg-wg',
  ]);
  const { steps } = plan(assume(before), compilePeer(membership, lease(keyOf('C'))), { prune: true });
  t.deepEqual(
    steps.map((step) => ('object' in step ? `${step.do} ${describeObject(step.object)}` : step.do)),
    [
      `put prefix 10.120.2.0/24 of peer ${keyOf('C')} dev wfwg-wg`,
      `delete peer ${keyOf('B')} at 192.0.2.2:51820 dev wfwg-wg`,
    ],
    'the prefix moves, then the old peer goes',
  );
});

test('wireguard: where a peer was heard from is left alone; another record moves it', (t) => {
  const [peer] = compilePeer(membershipOf(wg), leaseOf(wg, 2));
  if (peer?.kind !== 'wireguard-peer') return t.fail();
  const { endpoint: _endpoint, ...heard } = peer;
  const actual = assume([peer]);
  const seen = {
    ...actual,
    objects: new Map([[objectKey(peer), { object: heard, owned: true }]]),
  };
  t.deepEqual(plan(seen, [peer], { prune: false }).steps, []);
  const moved = compilePeer(membershipOf(wg), leaseOf(wg, 2, { publicIp: IpAddress.parse('192.0.2.9') }));
  const { steps } = plan(assume([peer]), moved, { prune: false });
  t.true(steps.some((step) => step.do === 'put' && step.object.kind === 'wireguard-peer'));
});

test('wireguard: another MTU in a lease changes the route alone, and another port the endpoint', (t) => {
  const steps = (before: Parameters<typeof leaseOf>[2], after: Parameters<typeof leaseOf>[2]): string[] =>
    plan(
      assume(compilePeer(membershipOf(wg), leaseOf(wg, 2, before))),
      compilePeer(membershipOf(wg), leaseOf(wg, 2, after)),
      { prune: true },
    ).steps.map((step) => ('object' in step ? `${step.do} ${step.object.kind}` : step.do));
  t.deepEqual(steps({ mtu: 1500 }, { mtu: 1400 }), ['put route']);
  t.deepEqual(steps({ mtu: 1400 }, {}), ['put route']);
  const data = { type: 'wireguard', 4: { publicKey: keyOf('B'), port: 7 } } as const;
  t.deepEqual(steps({}, { data }), ['put wireguard-peer']);
});

const PEERS = [
  { what: 'no key', fields: { data: undefined }, why: /its lease has no data of its IPv4 tunnel/ },
  { what: 'this node’s key', fields: dataOf(wg, 1), why: /the same key as this node/ },
  { what: 'another backend', fields: { backendType: 'vxlan' }, why: undefined },
] as const;
for (const { what, fields, why } of PEERS) {
  test(`wireguard: a peer with ${what} gets nothing`, (t) => {
    const { data: _data, ...lease } = leaseOf(wg, 2);
    const peer = { ...lease, ...fields } as ReturnType<typeof leaseOf>;
    if (peer.data === undefined) delete peer.data;
    t.deepEqual(compilePeer(membershipOf(wg), peer), []);
    const [probe] = driverOf(wg).probes(membershipOf(wg), peer);
    if (why === undefined) t.is(probe, undefined);
    else t.regex(probe !== undefined && 'unreachable' in probe ? probe.unreachable : '', why);
  });
}

const spec = (fields: Partial<NetworkSpec> = {}): NetworkSpec => ({
  name: 'wg',
  backend: 'wireguard',
  subnet: IpNetwork.parse('10.120.0.0/16'),
  ...fields,
});

test('wireguard: flannel’s words, there and back', (t) => {
  const backendOptions = {
    PSK,
    persistentkeepaliveinterval: '25',
    Mode: 'auto',
    ListenPort: '51900',
  };
  const network = networkOf(spec({ backendOptions }));
  t.like(network, { port: 51900, port6: 51901, psk: PSK, keepalive: 25, mode: 'auto' });
  const text = encodeConfig(network);
  t.deepEqual(JSON.parse(text).Backend, {
    Type: 'wireguard',
    ListenPort: 51900,
    ListenPortV6: 51901,
    PSK,
    PersistentKeepaliveInterval: 25,
    Mode: 'auto',
  });
  t.deepEqual({ ...decodeConfig('wg', text) }, { ...network });
  const bare = decodeConfig('wg', '{"Network":"10.120.0.0/16","Backend":{"Type":"WireGuard","MTU":1500}}');
  t.like(bare, { port: 51820, port6: 51821, mtu: 1440 });
});

test('wireguard: flannel’s lease, with the next key where flannel does not look', (t) => {
  const lease = leaseOf(dual, 2, {
    data: {
      type: 'wireguard',
      4: { publicKey: keyOf('B'), port: 51820, nextPublicKey: keyOf('C') },
      6: { publicKey: keyOf('B'), port: 51821 },
    },
  });
  const text = encodeLease(lease);
  t.like(JSON.parse(text), {
    BackendType: 'wireguard',
    BackendData: { PublicKey: keyOf('B'), Port: 51820, NextPublicKey: keyOf('C') },
    BackendV6Data: { PublicKey: keyOf('B'), Port: 51821 },
  });
  const key = { kind: 'lease', network: 'wg', subnet: lease.subnet, subnet6: lease.subnet6 } as const;
  t.deepEqual(decodeLease(key as Parameters<typeof decodeLease>[0], text, '7').data, lease.data);
  const portless = JSON.stringify({
    PublicIP: '192.0.2.2',
    BackendType: 'wireguard',
    BackendData: { PublicKey: keyOf('B') },
  });
  const peer = decodeLease(key as Parameters<typeof decodeLease>[0], portless, '7');
  t.like(compilePeer(membershipOf(wg), { ...peer, subnet: lease.subnet })[0], {
    endpoint: '192.0.2.2:51820',
  });
});

test('wireguard: a PSK is in no error, no description and no field of the API', (t) => {
  const wrong = 'c2VjcmV0';
  const texts = [
    t.throws(() => networkOf(spec({ backendOptions: { PSK: wrong } }))).message,
    t.throws(
      () =>
        decodeConfig(
          'wg',
          JSON.stringify({ Network: '10.120.0.0/16', Backend: { Type: 'wireguard', PSK: wrong } }),
        ),
      { instanceOf: UnreadableError },
    ).message,
    JSON.stringify(describeNetwork(wireguard({ psk: PSK }))),
    ...compilePeer(membershipOf(wireguard({ psk: PSK })), leaseOf(wg, 2)).map(describeObject),
  ];
  for (const text of texts) t.false(text.includes(wrong) || text.includes(PSK), text);
  t.regex(texts[0] ?? '', /PSK: expected a key of 32 bytes/);
});

const REFUSED: { what: string; fields: Partial<NetworkSpec>; message: RegExp }[] = [
  { what: 'a mode', fields: { backendOptions: { Mode: 'both' } }, message: /Mode: "both"/ },
  {
    what: 'mode ipv6 alone',
    fields: { backendOptions: { Mode: 'ipv6' } },
    message: /ipv6 needs an IPv6 subnet/,
  },
  {
    what: 'a keepalive',
    fields: { backendOptions: { PersistentKeepaliveInterval: 'soon' } },
    message: /Interval/,
  },
  { what: 'a VNI', fields: { vni: 7 }, message: /vni: the backend wireguard has none: it encrypts/ },
];
for (const { what, fields, message } of REFUSED)
  test(`wireguard: ${what} that does not fit is refused`, (t) => {
    t.throws(() => networkOf(spec(fields)), { message });
  });

test('wireguard: every network gets a pair of ports of its own, and a taken one is refused with its owner', (t) => {
  const others = (...networks: Network[]) =>
    networks.map((network) => ({ name: network.name, ports: driverOf(network).udpPorts(network) }));
  const first = wireguard({ ...DUAL, name: 'first' });
  const allocated = (network: Network, beside: ReturnType<typeof others>): Network =>
    backendOf('wireguard').allocate(network as OverlayNetwork, beside, () => 0);
  const chosen = allocated(networkOf(spec()), others(first, overlay({ port: 51823 })));
  t.like(chosen, { port: 51824, port6: 51825 });
  t.like(allocated(networkOf(spec()), []), { port: 51820, port6: 51821 });
  t.throws(() => driverOf(wg).checkBeside(wg, [first]), {
    message: "network wg: UDP port 51820 is network first's",
  });
  t.throws(() => driverOf(wg).checkBeside(wg, [overlay({ port: 51820 })]), {
    message: /UDP port 51820 is network blue's, of the backend vxlan/,
  });
  t.notThrows(() => driverOf(wg).checkBeside(wg, [overlay(), wireguard({ name: 'x', port: 51830 })]));
});

test('wireguard: it is routed with no network, whatever a record says', (t) => {
  t.true(areRouted(overlay({ name: 'a', routes: ['b'] }), overlay({ name: 'b' })));
  t.false(areRouted(overlay({ routes: ['wg'] }), wg));
  t.false(areRouted(wg, overlay({ routes: ['wg'] })));
});

test('wireguard: the firewall has its device as a tunnel, and its port', (t) => {
  const { networks, tunnelPorts } = compileFirewall([membershipOf(wg)]);
  t.deepEqual(networks.map(({ links, tunnels }) => [links, tunnels])[0], [
    ['wfbr-wg', 'wfwg-wg'],
    ['wfwg-wg'],
  ]);
  t.deepEqual(tunnelPorts, [51820]);
  t.true(networks[0]?.sealed);
});
