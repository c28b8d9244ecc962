// Plan in single cases, which people check by reading the steps.
import test from 'ava';

import { compileEndpoint, compileNetwork, compilePeer } from '../../core/compile.js';
import { addressKey, sameObject, type KernelObject, type VxlanLink } from '../../core/objects/index.js';
import { assume, describeStep, plan, type Step } from '../../core/plan.js';
import { FakeKernel } from '../fakes/kernel.js';
import { dataOf, endpointOf, leaseOf, membershipOf, overlay } from './records.js';

const blue = overlay();
const membership = membershipOf(blue);
const network = compileNetwork(membership);
const peer = compilePeer(membership, leaseOf(blue, 2));
const { host } = compileEndpoint(membership, endpointOf(blue, '10.100.1.2/24', { id: '0123456789abcdef' }));

const shown = (steps: readonly Step[]): string[] =>
  steps.map((step) => {
    const { verb, what } = describeStep(step);
    return `${verb} ${what}`;
  });

const stepsFor = (actual: Iterable<KernelObject>, desired: Iterable<KernelObject>, prune = true): string[] =>
  shown(plan(assume(actual), desired, { prune }).steps);

test('a network and a peer on an empty node: links, settings, addresses, and the route last', (t) => {
  t.deepEqual(stepsFor([], [...peer, ...network]), [
    'create bridge wfbr4097',
    'create vxlan wfvx4097',
    'create sysctl net/ipv4/neigh/wfbr4097/proxy_delay',
    'create sysctl net/ipv4/conf/wfvx4097/forwarding',
    'create sysctl net/ipv4/conf/wfbr4097/forwarding',
    'create sysctl net/ipv4/ip_forward',
    'create sysctl net/ipv4/conf/wfvx4097/route_localnet',
    'create sysctl net/ipv4/conf/wfvx4097/rp_filter',
    'create sysctl net/ipv4/conf/wfbr4097/route_localnet',
    'create sysctl net/ipv4/conf/wfbr4097/rp_filter',
    'create address wfvx4097 10.100.1.0/32',
    'create address wfbr4097 10.100.1.1/24',
    'create address wfbr4097 169.254.53.53/32',
    'create fdb wfvx4097 02:00:00:00:04:02',
    'create neighbour wfvx4097 10.100.2.0',
    'create route 10.100.2.0/24',
  ]);
});

test('a removed peer: the route is deleted first', (t) => {
  t.deepEqual(stepsFor([...network, ...peer], network), [
    'delete route 10.100.2.0/24',
    'delete neighbour wfvx4097 10.100.2.0',
    'delete fdb wfvx4097 02:00:00:00:04:02',
  ]);
});

test('a peer with a new underlay address: its one FDB entry is replaced', (t) => {
  const moved = compilePeer(membership, { ...leaseOf(blue, 2), publicIp: leaseOf(blue, 9).publicIp });
  t.deepEqual(stepsFor([...network, ...peer], [...network, ...moved]), [
    'change fdb wfvx4097 02:00:00:00:04:02',
  ]);
});

test('a peer with a new tunnel address: the new FDB entry precedes the neighbour entry', (t) => {
  const remade = compilePeer(membership, leaseOf(blue, 2, dataOf(blue, 0x99)));
  t.deepEqual(stepsFor([...network, ...peer], [...network, ...remade]), [
    'create fdb wfvx4097 02:00:00:00:04:99',
    'change neighbour wfvx4097 10.100.2.0',
    'delete fdb wfvx4097 02:00:00:00:04:02',
  ]);
});

test('a removed network: everything on its links is deleted with them', (t) => {
  t.deepEqual(stepsFor([...network, ...peer, ...host], []), [
    'delete link wfep0123456789a',
    'delete link wfvx4097',
    'delete link wfbr4097',
  ]);
});

test('a tunnel whose port changes is recreated, with everything on it', (t) => {
  const other = compileNetwork(membershipOf(overlay({ port: 4789 })));
  t.deepEqual(stepsFor([...network, ...peer], [...other, ...peer]), [
    'delete link wfvx4097',
    'create vxlan wfvx4097',
    'create sysctl net/ipv4/conf/wfvx4097/forwarding',
    'create sysctl net/ipv4/conf/wfvx4097/route_localnet',
    'create sysctl net/ipv4/conf/wfvx4097/rp_filter',
    'create address wfvx4097 10.100.1.0/32',
    'create fdb wfvx4097 02:00:00:00:04:02',
    'create neighbour wfvx4097 10.100.2.0',
    'create route 10.100.2.0/24',
  ]);
});

test('a deleted bridge gets its ports back', (t) => {
  const without = [...network, ...host].filter(
    (object) => object.kind !== 'link' || object.type !== 'bridge',
  );
  const steps = plan(assume(without), [...network, ...host], { prune: true }).steps;
  t.deepEqual(
    steps.flatMap((step) =>
      step.do === 'create-link' || step.do === 'change-link' ? [`${step.do} ${step.link.name}`] : [],
    ),
    ['create-link wfbr4097', 'change-link wfep0123456789a'],
  );
});

test('a link that is down is brought up', (t) => {
  const actual = assume([...network, ...host]);
  const steps = plan({ ...actual, up: new Set(['wfbr4097', 'wfvx4097']) }, [...network, ...host], {
    prune: true,
  }).steps;
  t.deepEqual(shown(steps), ['change veth wfep0123456789a']);
});

test('a new MAC address deletes the neighbour entries, which are added again', (t) => {
  const renamed = network.map((object) =>
    object.kind === 'link' && object.type === 'vxlan' ? { ...object, mac: '02:00:00:00:04:77' } : object,
  );
  t.deepEqual(stepsFor([...network, ...peer], [...renamed, ...peer]), [
    'change vxlan wfvx4097',
    'create neighbour wfvx4097 10.100.2.0',
  ]);
});

test('without prune nothing is deleted', (t) => {
  t.deepEqual(stepsFor([...network, ...peer], network, false), []);
});

test('an unowned object under a desired key is a conflict, and left alone', async (t) => {
  const kernel = new FakeKernel();
  kernel.breakByHand.addLink('wfvx4097', 'tun');
  kernel.breakByHand.addLink('wfbr4097', {
    kind: 'link',
    type: 'bridge',
    name: 'wfbr4097',
    alias: '',
    mac: '02:00:00:00:00:01',
    mtu: 1500,
  });
  const { steps, conflicts } = plan(await kernel.node.observe([]), [...network, ...peer, ...host], {
    prune: true,
  });
  t.deepEqual(shown(steps), ['create sysctl net/ipv4/ip_forward']);
  t.deepEqual(
    conflicts.map(({ object, why }) => [object.kind === 'link' ? object.name : object.kind, why]),
    [
      ['wfbr4097', 'a link of that name exists, and weft did not make it'],
      ['wfvx4097', 'a link of that name exists, and weft did not make it'],
      ['wfep0123456789a', "its bridge wfbr4097 is not weft's"],
    ],
  );
});

test('an unowned route in the way is a conflict; an equal one counts as weft’s own', async (t) => {
  const kernel = new FakeKernel();
  await kernel.node.apply(plan(assume([]), network, { prune: true }).steps);
  kernel.breakByHand.put({ kind: 'route', to: '10.100.2.0/24', link: 'eth0' });
  const { steps, conflicts } = plan(await kernel.node.observe([]), peer, { prune: false });
  t.deepEqual(
    conflicts.map(({ object }) => object.kind),
    ['route'],
  );
  t.false(steps.some((step) => step.do === 'put' && step.object.kind === 'route'));
  const [route] = peer.filter((object) => object.kind === 'route');
  kernel.breakByHand.put(route ?? t.fail());
  t.deepEqual(plan(await kernel.node.observe([]), peer, { prune: false }).conflicts, []);
});

test('equality of objects', (t) => {
  const vxlan =
    network.find((object): object is VxlanLink => object.kind === 'link' && object.type === 'vxlan') ??
    t.fail();
  t.true(sameObject(vxlan, { ...vxlan }));
  for (const change of [
    { mtu: 1 },
    { mac: '02:00:00:00:00:00' },
    { local: '192.0.2.9' },
    { port: 1 },
    { vni: 1 },
    { alias: 'x' },
  ]) {
    t.false(sameObject(vxlan, { ...vxlan, ...change }), JSON.stringify(change));
  }
  const route: KernelObject = { kind: 'route', to: '10.0.0.0/8', link: 'a' };
  t.true(sameObject(route, { ...route, onlink: false }));
  t.false(sameObject(route, { ...route, onlink: true }));
  t.false(sameObject(route, { ...route, link: 'b' }));
  t.false(sameObject(route, { ...route, via: '10.0.0.1' }));
  t.false(sameObject(route, { ...route, src: '10.0.0.1' }));
});

test('a connected route deleted by hand is restored before the routes through it, and then left alone', (t) => {
  const without = {
    ...assume([...network, ...peer]),
    unconnected: new Set([addressKey('wfbr4097', '10.100.1.1/24')]),
  };
  const { steps } = plan(without, [...network, ...peer], { prune: true });
  t.deepEqual(shown(steps), ['create route 10.100.1.0/24']);
  const route = steps.flatMap((step) => (step.do === 'put' ? [step.object] : []));
  t.deepEqual(stepsFor([...network, ...peer, ...route], [...network, ...peer]), []);
});
