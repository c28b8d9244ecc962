// The fakes keep the contracts that tests rely on.
import test from 'ava';

import type { KernelEvent } from '../../agent/kernel/kernel.js';
import { IpNetwork } from '../../core/address.js';
import { compileEndpoint, compileNetwork, compilePeer } from '../../core/compile.js';
import { WeftError } from '../../core/errors.js';
import type { NetworkSpec } from '../../core/network.js';
import { linkKey, type LinkObject, routeKey } from '../../core/objects/index.js';
import { assume, plan } from '../../core/plan.js';
import { node } from '../controller/records.js';
import { endpointOf, leaseOf, membershipOf, overlay } from '../core/records.js';
import { FakeKernel, NODE_PATH } from './kernel.js';
import { FakeStore } from './store.js';

// The fake kernel keeps the contract that the agent's tests rely on.

const PATH = '/run/netns/c1';
const blue = overlay();
const membership = membershipOf(blue);
const endpoint = compileEndpoint(membership, endpointOf(blue, '10.100.1.2/24', { id: '0123456789abcdef' }));
const host = [...compileNetwork(membership), ...compilePeer(membership, leaseOf(blue, 2)), ...endpoint.host];
const bridge = host.find((object): object is LinkObject => object.kind === 'link') as LinkObject;

async function attached(): Promise<{ kernel: FakeKernel; events: KernelEvent[] }> {
  const kernel = new FakeKernel();
  kernel.addContainer(PATH);
  const events: KernelEvent[] = [];
  kernel.watch((event) => events.push(event));
  const { namespace } = await kernel.openNamespace(PATH);
  await kernel.node.apply(
    plan(assume([]), host, { prune: true }).steps,
    new Map([['wfep0123456789a', namespace]]),
  );
  await namespace.apply(plan(await namespace.observe([]), endpoint.container, { prune: true }).steps);
  namespace.close();
  await kernel.settled();
  return { kernel, events };
}

test('the dump reads like ip', async (t) => {
  const { kernel } = await attached();
  t.is(
    kernel.dump(PATH),
    [
      'link eth0 peer address 02:77:0a:64:01:02 mtu 1450',
      'link lo loopback',
      'addr 10.100.1.2/24 dev eth0',
      'route 10.100.0.0/16 via 10.100.1.1 dev eth0',
      'route default via 10.100.1.1 dev eth0',
    ].join('\n'),
  );
  t.true(kernel.has('route 10.100.2.0/24 via 10.100.2.0 dev wfvx4097 onlink'));
  t.true(kernel.has('sysctl net/ipv4/ip_forward=1'));
});

test('a refused step names its error, and the others are applied', async (t) => {
  const { kernel } = await attached();
  kernel.breakByHand.put({ kind: 'route', to: '10.9.0.0/16', link: 'eth0' });
  const failures = await kernel.node.apply([
    { do: 'create-link', link: bridge },
    { do: 'put', object: { kind: 'address', link: 'nolink', address: '10.9.0.1/24' }, replace: false },
    { do: 'put', object: { kind: 'route', to: '10.8.0.0/16', link: 'nolink' }, replace: false },
    {
      do: 'put',
      object: { kind: 'route', to: '10.8.0.0/16', link: 'wfbr4097', via: '10.8.0.1' },
      replace: false,
    },
    { do: 'put', object: { kind: 'route', to: '10.9.0.0/16', link: 'wfbr4097' }, replace: false },
    {
      do: 'put',
      object: { kind: 'sysctl', path: 'net/ipv4/conf/nolink/forwarding', value: '1' },
      replace: false,
    },
    { do: 'delete-link', name: 'nolink' },
    { do: 'delete', object: { kind: 'route', to: '10.9.0.0/16', link: 'eth0' } },
    { do: 'put', object: { kind: 'proxy', link: 'wfbr4097', ip: '10.100.1.9' }, replace: false },
  ]);
  t.deepEqual(
    failures.map(({ errno }) => errno),
    ['EEXIST', 'ENODEV', 'ENODEV', 'ENETUNREACH', 'EEXIST', 'ENOENT'],
  );
  t.true(kernel.has('route 10.9.0.0/16 dev eth0 (unowned)'));
  t.true(kernel.has('neigh proxy 10.100.1.9 dev wfbr4097'));
});

test('changes are notified, also those by hand', async (t) => {
  const { kernel, events } = await attached();
  t.true(events.some((event) => event.kind === 'changed' && event.objects.has(routeKey('10.100.2.0/24'))));
  events.length = 0;
  kernel.breakByHand.delete(routeKey('10.100.2.0/24'));
  kernel.breakByHand.delete(linkKey('wfvx4097'));
  await kernel.settled();
  const [event] = events;
  t.is(events.length, 1);
  t.deepEqual(event?.kind === 'changed' ? [[...event.gone], [...event.linksGone]] : event, [
    [routeKey('10.100.2.0/24'), linkKey('wfvx4097')],
    ['wfvx4097'],
  ]);
  t.false(kernel.has('neigh 10.100.2.0 lladdr 02:00:00:00:04:02 dev wfvx4097'));
});

test('changes in containers and of most sysctls are not notified', async (t) => {
  const { kernel, events } = await attached();
  events.length = 0;
  kernel.handsIn(PATH).delete(routeKey('0.0.0.0/0'));
  kernel.breakByHand.sysctl('net/ipv4/conf/wfbr4097/send_redirects', '1');
  await kernel.settled();
  t.deepEqual(events, []);
});

test('a container that ends takes its veth with it, unless a handle is open', async (t) => {
  const { kernel } = await attached();
  const before = kernel.identify(PATH);
  const { namespace } = await kernel.openNamespace(PATH);
  kernel.vanish(PATH);
  t.is(kernel.identify(PATH), undefined);
  t.true((await kernel.node.linkNames()).has('wfep0123456789a'));
  namespace.close();
  t.false((await kernel.node.linkNames()).has('wfep0123456789a'));
  await t.throwsAsync(kernel.openNamespace(PATH), { instanceOf: WeftError });
  await t.throwsAsync(namespace.observe([]), { message: /was closed/ });
  kernel.addContainer(PATH);
  t.not(kernel.identify(PATH)?.cookie, before?.cookie);
  t.true((await kernel.openNamespace(NODE_PATH)).isNode);
});

test('a veth deleted on the host is deleted in the container', async (t) => {
  const { kernel } = await attached();
  kernel.breakByHand.delete(linkKey('wfep0123456789a'));
  t.is(kernel.dump(PATH), 'link lo loopback');
});

test('a link that goes down loses its routes, neighbours and IPv6 addresses', async (t) => {
  const { kernel } = await attached();
  kernel.breakByHand.setDown('wfvx4097');
  t.deepEqual(
    kernel
      .dump()
      .split('\n')
      .filter((line) => line.includes('wfvx4097') && !line.startsWith('sysctl')),
    [
      'link wfvx4097 vxlan id 4097 local 192.0.2.1 dstport 8472 address 02:00:00:00:04:01 mtu 1450 alias "weft network blue" down',
      'addr 10.100.1.0/32 dev wfvx4097',
      'fdb 02:00:00:00:04:02 dst 192.0.2.2 dev wfvx4097',
    ],
  );
});

test('steps fail on demand', async (t) => {
  const { kernel } = await attached();
  kernel.failSteps((step) => step.do === 'put', 1, 'ENOBUFS');
  const put = {
    do: 'put',
    object: { kind: 'proxy', link: 'wfbr4097', ip: '10.100.1.9' },
    replace: false,
  } as const;
  t.is((await kernel.node.apply([put]))[0]?.errno, 'ENOBUFS');
  t.deepEqual(await kernel.node.apply([put]), []);
});

test('the firewall reports its repairs', async (t) => {
  const { kernel, events } = await attached();
  events.length = 0;
  t.is((await kernel.firewall.ensure({ networks: [] })).repaired.length, 1);
  t.is((await kernel.firewall.ensure({ networks: [] })).repaired.length, 0);
  kernel.flushFirewall();
  await kernel.settled();
  t.deepEqual(events, [{ kind: 'firewall' }]);
  t.is((await kernel.firewall.ensure({ networks: [] })).repaired.length, 1);
});

// The fake store keeps the contract that the controller's tests rely on.

const spec = (name: string, subnet: string, more: Partial<NetworkSpec> = {}): NetworkSpec => ({
  name,
  subnet: IpNetwork.parse(subnet),
  ...more,
});

test('a dry run refuses what a creation refuses, in the same words, and writes nothing', async (t) => {
  const store = new FakeStore();
  store.putNode(node('n1', '192.0.2.1'));
  await store.createNetwork(spec('blue', '10.100.0.0/16', { vni: 100 }));
  await store.createNetwork(spec('v5', '10.101.0.0/16', { driver: 'vlan', vlan: 5 }));
  for (const [wanted, words] of [
    [spec('blue', '10.102.0.0/16'), /blue exists already/],
    [spec('two', '10.100.0.0/24'), /overlaps/],
    [spec('two', '192.0.2.0/24'), /192\.0\.2\.1/],
    [spec('two', '10.102.0.0/16', { vni: 100 }), /VNI 100/],
    [spec('two', '10.102.0.0/16', { driver: 'vlan', vlan: 5 }), /VLAN 5 is network v5/],
  ] as const) {
    const dry = t.throws(() => store.checkNetwork(wanted));
    t.regex(dry.message, words);
    t.is((await t.throwsAsync(store.createNetwork(wanted))).message, dry.message);
  }
  t.like(store.checkNetwork(spec('two', '10.102.0.0/16')), { name: 'two', vni: 0 });
  t.deepEqual([...store.view.networks.keys()], ['blue', 'v5']);
});
