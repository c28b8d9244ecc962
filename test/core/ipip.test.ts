// The backend ipip: objects as `ip` lines, one device for all networks, flannel's formats, and what is refused.
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { compileFirewall, compileNetwork, compilePeer, containerMtu } from '../../core/compile.js';
import { networkOf } from '../../core/drivers/index.js';
import { areRouted } from '../../core/network.js';
import { objectKey, sameObject, type KernelObject } from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { decodeConfig, encodeConfig } from '../../store/network-codec.js';
import { decodeLease } from '../../store/lease-codec.js';
import { leaseKey } from '../store/helpers.js';
import { linesOf } from '../fakes/lines.js';
import { ipip, leaseOf, membershipOf, overlay } from './records.js';

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
