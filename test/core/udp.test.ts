// The backend udp: objects as `ip` lines, flannel's formats, ports, and what is refused.
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
import { areRouted, type Network } from '../../core/network.js';
import type { PumpPrefixObject } from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { compileFou } from '../../core/port-security.js';
import { decodeConfig, encodeConfig } from '../../store/network-codec.js';
import { decodeLease, encodeLease } from '../../store/lease-codec.js';
import { leaseKey } from '../store/helpers.js';
import { linesOf } from '../fakes/lines.js';
import { claimOf, leaseOf, membershipOf, overlay, udp } from './records.js';

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
