// The controller's gRPC services over a real connection, on a fake store.
import type { Metadata } from '@grpc/grpc-js';
import test from 'ava';

import { IpAddress, IpNetwork } from '../../core/address.js';
import { AS_OF_KEY, call } from '../../daemon/grpc.js';
import { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import { CreateNetworkRequest, EventType, type NetworkEvent } from '../../proto/gen/weft/v1/controller.js';
import { networkOf } from '../../core/drivers/index.js';
import { FakeStore } from '../fakes/store.js';
import { Collector, eventually, failureOf, startTestController, type TestController } from './harness.js';
import { endpoint, lease, node, networkWith } from './records.js';

const within = { peer: 'the controller', deadlineMs: 8000 };

const createNetwork = (it: TestController, request: Partial<CreateNetworkRequest>) =>
  call(it.networks.createNetwork.bind(it.networks), CreateNetworkRequest.fromPartial(request), within);
const getNetwork = (it: TestController, name: string) =>
  call(it.networks.getNetwork.bind(it.networks), { name }, within);
const listNetworks = (it: TestController) => call(it.networks.listNetworks.bind(it.networks), {}, within);
const getEndpoint = (it: TestController, id: string) =>
  call(it.endpoints.getEndpoint.bind(it.endpoints), { id }, within);
const listEndpoints = (it: TestController, network = '', on = '') =>
  call(it.endpoints.listEndpoints.bind(it.endpoints), { network, node: on }, within);
const status = (it: TestController) => call(it.status.getStatus.bind(it.status), {}, within);

async function started(
  t: { teardown: (stop: () => Promise<void>) => void },
  store?: FakeStore,
): Promise<TestController> {
  const controller = await startTestController(store === undefined ? {} : { store });
  t.teardown(() => controller.stop());
  return controller;
}

const NO_MOVE = { backend: undefined, directRouting: false, backendOptions: {}, force: false };

test('a network is created, shown, listed and removed', async (t) => {
  const it = await started(t);
  const green = await createNetwork(it, { name: 'green', subnet: '10.101.0.0/16' });
  t.like(green, {
    name: 'green',
    driver: 'overlay',
    backend: 'vxlan',
    hostPrefix: 24,
    vni: 4096,
    port: 8472,
    masquerade: true,
  });
  const blue = await createNetwork(it, {
    name: 'blue',
    subnet: '10.100.0.0/16',
    subnet6: 'fd42:100::/48',
    hostPrefix: 26,
    vni: 100,
    port: 4789,
    mtu: 1300,
    internal: true,
    noMasquerade: true,
  });
  t.like(blue, {
    subnet6: 'fd42:100::/48',
    hostPrefix: 26,
    hostPrefix6: 64,
    vni: 100,
    port: 4789,
    mtu: 1300,
    internal: true,
    masquerade: false,
  });
  t.deepEqual(
    (await listNetworks(it)).networks.map(({ name }) => name),
    ['blue', 'green'],
  );
  t.deepEqual(await getNetwork(it, 'blue'), blue);
  await call(it.networks.deleteNetwork.bind(it.networks), { name: 'blue', force: false }, within);
  t.regex(await failureOf(getNetwork(it, 'blue')), /^NOT_FOUND network blue: there is no such network\n/);
  t.regex(await failureOf(getNetwork(it, 'grene')), /\nDid you mean green\?$/);
});

test('a network with an unserved config exists: no answer advises to create it, and it can be removed', async (t) => {
  const store = new FakeStore();
  const key = '/weft/networks/old/config';
  store.putBad({ key, why: 'Backend.Type: "wireguard" is not served; weft serves "vxlan"' });
  store.putNetwork(networkOf({ name: 'blue', subnet: IpNetwork.parse('10.100.0.0/16') }));
  store.putNode(node('n1', '192.0.2.1'));
  store.putRecordOf(endpoint('e1', 'old', 'n1'));
  const it = await started(t, store);
  const route = (a: string, b: string, remove = false) =>
    call(it.networks.routeNetworks.bind(it.networks), { a, b, remove }, within);
  const attach = AttachRequest.fromPartial({ network: 'old', target: 'netns:/run/netns/c1' });
  const message =
    'FAILED_PRECONDITION network old: its config is not one that weft serves: Backend.Type: "wireguard" is not served; weft serves "vxlan"\n' +
    `Correct ${key} in etcd, or remove the network: weft network rm old.`;
  for (const [what, answer] of [
    ['inspect', () => getNetwork(it, 'old')],
    [
      'update',
      () =>
        call(
          it.networks.updateNetwork.bind(it.networks),
          { name: 'old', masquerade: false, ...NO_MOVE },
          within,
        ),
    ],
    ['route', () => route('blue', 'old')],
    ['route back', () => route('old', 'blue')],
    ['route rm', () => route('gone', 'old', true)],
    ['attach', () => call(it.endpoints.createEndpoint.bind(it.endpoints), { node: 'n1', attach }, within)],
  ] as const) {
    t.is(await failureOf(answer()), message, what);
  }
  t.deepEqual(
    (await listEndpoints(it, 'old')).endpoints.map(({ id }) => id),
    ['e1'],
    'what has to be detached is found',
  );
  const remove = (force: boolean) =>
    call(it.networks.deleteNetwork.bind(it.networks), { name: 'old', force }, within);
  t.regex(await failureOf(remove(false)), /^FAILED_PRECONDITION network old: /);
  await remove(true);
  t.regex(await failureOf(getNetwork(it, 'old')), /^NOT_FOUND /);
});

const wrong: [name: string, request: Partial<CreateNetworkRequest>, message: RegExp][] = [
  ['no name', { name: '' }, /^INVALID_ARGUMENT name: "" is not a network name\nUse letters/],
  ['dotted name', { name: 'a.b' }, /^INVALID_ARGUMENT name: "a\.b" /],
  ['no subnet', { subnet: '' }, /^INVALID_ARGUMENT subnet: not given\n/],
  [
    'host bits',
    { subnet: '10.100.0.1/16' },
    /^INVALID_ARGUMENT subnet: "10.100.0.1\/16" has host bits set\nDid you mean 10.100.0.0\/16\?/,
  ],
  [
    'no prefix',
    { subnet: '10.100.0.0' },
    /^INVALID_ARGUMENT subnet: .* is not an address with a prefix length/,
  ],
  ['reserved', { subnet: '127.0.0.0/8' }, /^INVALID_ARGUMENT subnet: 127.0.0.0\/8 overlaps the reserved/],
  [
    'IPv6 as subnet',
    { subnet: 'fd42::/48' },
    /^INVALID_ARGUMENT subnet: "fd42::\/48" is not an IPv4 prefix\nGive an IPv4 prefix, and the IPv6 one as subnet6/,
  ],
  [
    'IPv4 as subnet6',
    { subnet6: '10.0.0.0/8' },
    /^INVALID_ARGUMENT subnet6: "10.0.0.0\/8" is not an IPv6 prefix/,
  ],
  ['small network', { subnet: '10.100.0.0/29' }, /^INVALID_ARGUMENT subnet: 10.100.0.0\/29 is too small/],
  [
    'host prefix',
    { hostPrefix: 31 },
    /^INVALID_ARGUMENT host-prefix: 31 does not fit 10.100.0.0\/16\n.*give 18 to 30/,
  ],
  [
    'host prefix6 alone',
    { hostPrefix6: 64 },
    /^INVALID_ARGUMENT host-prefix6: the network has no IPv6 subnet\n.*--subnet6/,
  ],
  ['VNI 0', { vni: 0 }, /^INVALID_ARGUMENT vni: 0 is out of range\nGive a whole number from 1 to 16777215\./],
  ['VNI too large', { vni: 16_777_216 }, /^INVALID_ARGUMENT vni: 16777216 is out of range/],
  ['port', { port: 65_536 }, /^INVALID_ARGUMENT port: 65536 is out of range/],
  ['MTU', { mtu: 60 }, /^INVALID_ARGUMENT mtu: 60 is out of range\nGive a whole number from 68/],
  [
    'MTU of IPv6',
    { mtu: 1000, subnet6: 'fd42::/48' },
    /^INVALID_ARGUMENT mtu: 1000 .*\nGive a whole number from 1280/,
  ],
  ['bridge with a VNI', { driver: 'bridge', vni: 5 }, /^INVALID_ARGUMENT vni: the driver bridge has none/],
  ['vlan without one', { driver: 'vlan' }, /^INVALID_ARGUMENT vlan: not given/],
  ['vlan 0', { driver: 'vlan', vlan: 0 }, /^INVALID_ARGUMENT vlan: 0 is out of range\nGive .* 1 to 4094/],
  ['vlan 4095', { driver: 'vlan', vlan: 4095 }, /^INVALID_ARGUMENT vlan: 4095 is out of range/],
  ['overlay with a parent', { parent: 'eth1' }, /^INVALID_ARGUMENT parent: the driver overlay has none/],
  ['unknown driver', { driver: 'overlya' }, /^INVALID_ARGUMENT driver: "overlya" is not known/],
  [
    'flannel backend',
    { backend: 'ipsec' },
    /^UNIMPLEMENTED backend: "ipsec" is not served yet\nUse the backend vxlan/,
  ],
  [
    'unknown backend',
    { backend: 'vlxan' },
    /^INVALID_ARGUMENT backend: "vlxan" is not known\nDid you mean vxlan\?/,
  ],
];

for (const [name, request, message] of wrong) {
  test(`refused: ${name}`, async (t) => {
    const it = await started(t);
    t.regex(
      await failureOf(createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16', ...request })),
      message,
    );
    t.is(it.store.view.networks.size, 0);
  });
}

test('a conflict names the other network', async (t) => {
  const it = await started(t);
  it.store.putNode(node('n1', '10.7.0.1'));
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  t.regex(
    await failureOf(createNetwork(it, { name: 'blue', subnet: '10.102.0.0/16' })),
    /^ALREADY_EXISTS network blue exists/,
  );
  t.regex(
    await failureOf(createNetwork(it, { name: 'teal', subnet: '10.100.8.0/21' })),
    /^FAILED_PRECONDITION .* overlaps network blue/,
  );
  t.regex(
    await failureOf(createNetwork(it, { name: 'teal', subnet: '10.0.0.0/12' })),
    /10\.7\.0\.1, the underlay address of node n1/,
  );
});

test('leases are sorted, with node and expiry (a flanneld’s without); etcd is not queried each time', async (t) => {
  const it = await started(t);
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  it.store.remainingSeconds = 600;
  lease(it.store, 'blue', '10.100.20.0/24', undefined, '192.0.2.9');
  lease(it.store, 'blue', '10.100.3.0/24', 'n1', '192.0.2.1');
  it.store.putLease({
    network: 'blue',
    subnet: IpNetwork.parse('10.100.4.0/24'),
    publicIp: IpAddress.parse('192.0.2.4'),
    backendType: 'vxlan',
    reservation: true,
  });
  const { leases } = await getNetwork(it, 'blue');
  t.deepEqual(
    leases.map(({ node: on, subnet, publicIp, vtepMac }) => [on, subnet, publicIp, vtepMac]),
    [
      ['n1', '10.100.3.0/24', '192.0.2.1', '02:00:00:00:00:aa'],
      [undefined, '10.100.4.0/24', '192.0.2.4', undefined],
      [undefined, '10.100.20.0/24', '192.0.2.9', '02:00:00:00:00:aa'],
    ],
  );
  const left = (leases[0]?.expires === undefined ? 0 : Date.parse(leases[0].expires)) - Date.now();
  t.true(left > 590_000 && left <= 600_000, String(left));
  t.is(leases[1]?.expires, undefined);
  for (let i = 0; i < 5; i++) await listNetworks(it);
  t.is(it.store.leaseTimesAsked, 1);
  it.store.setConnected(false);
  t.is((await getNetwork(it, 'blue')).leases[0]?.expires, leases[0]?.expires);
});

test('endpoints have the gateway of the node’s subnet, and the MTU that the node reports or an estimate', async (t) => {
  const it = await started(t);
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  await createNetwork(it, { name: 'dual', subnet: '10.101.0.0/16', subnet6: 'fd42:101::/48' });
  await createNetwork(it, { name: 'low', subnet: '10.102.0.0/16', mtu: 1200 });
  it.store.putNode(node('n1', '192.0.2.1'));
  lease(it.store, 'blue', '10.100.5.0/24', 'n1', '192.0.2.1');
  it.store.putRecordOf(endpoint('aa11', 'blue', 'n1', { name: 'web', aliases: ['www'] }));
  it.store.putRecordOf(endpoint('aa22', 'dual', 'n1', { name: 'web' }));
  it.store.putRecordOf(endpoint('bb33', 'low', 'n2', { name: 'db' }));
  t.like(await getEndpoint(it, 'aa11'), {
    gateway: '10.100.5.1',
    mtu: 1450,
    aliases: ['www'],
    target: 'netns:/run/netns/aa11',
    publish: [],
  });
  t.is((await getEndpoint(it, 'aa22')).mtu, 1430);
  t.is((await getEndpoint(it, 'db')).mtu, 1200);
  t.deepEqual(
    (await listEndpoints(it)).endpoints.map(({ id }) => id),
    ['aa11', 'aa22', 'bb33'],
  );
  t.deepEqual(
    (await listEndpoints(it, 'blue')).endpoints.map(({ id }) => id),
    ['aa11'],
  );
  t.deepEqual(
    (await listEndpoints(it, '', 'n1')).endpoints.map(({ id }) => id),
    ['aa11', 'aa22'],
  );
  t.is((await getEndpoint(it, 'bb')).name, 'db');
  t.regex(
    await failureOf(getEndpoint(it, 'aa')),
    /^FAILED_PRECONDITION endpoint aa: 2 endpoints match: aa11 \(web of blue\), aa22/,
  );
  t.regex(await failureOf(getEndpoint(it, 'web')), /^FAILED_PRECONDITION endpoint web: 2 endpoints/);
  t.regex(await failureOf(getEndpoint(it, 'zz')), /^NOT_FOUND endpoint zz/);
  t.regex(await failureOf(getEndpoint(it, '')), /^INVALID_ARGUMENT id: not given/);
  t.regex(await failureOf(listEndpoints(it, 'bleu')), /^NOT_FOUND network bleu/);
  t.regex(await failureOf(listEndpoints(it, '', 'n9')), /^NOT_FOUND node n9/);
});

test('nodes are sorted; a node that is up is not removed without force', async (t) => {
  const it = await started(t);
  it.store.putNode(node('n2', '192.0.2.2'), { alive: false });
  it.store.putNode(node('n1', '192.0.2.1'));
  const nodes = it.nodes;
  const { nodes: found } = await call(nodes.listNodes.bind(nodes), {}, within);
  t.deepEqual(
    found.map(({ name, state }) => [name, state]),
    [
      ['n1', 'up'],
      ['n2', 'down'],
    ],
  );
  const remove = (name: string, force: boolean) =>
    call(nodes.deleteNode.bind(nodes), { name, force }, within);
  t.regex(await failureOf(remove('n1', false)), /^FAILED_PRECONDITION node n1: is up/);
  await remove('n2', false);
  await remove('n1', true);
  t.regex(await failureOf(remove('n1', true)), /^NOT_FOUND node n1/);
  it.store.putRecordOf(endpoint('aa', 'green', 'n3'));
  await remove('n3', false);
  t.is(it.store.view.endpoints.get('green')?.size ?? 0, 0, 'what a removal that was cut short has left');
});

test('a watch sends existing objects, SYNCED, and then changes', async (t) => {
  const it = await started(t);
  await createNetwork(it, { name: 'green', subnet: '10.101.0.0/16' });
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  const networks = new Collector<NetworkEvent>(it.networks.watchNetworks({}));
  const nodes = new Collector(it.nodes.watchNodes({}));
  const endpoints = new Collector(it.endpoints.watchEndpoints({ network: 'blue', node: '' }));
  await eventually(
    'SYNCED',
    () => networks.events.length === 3 && nodes.events.length === 1 && endpoints.events.length === 1,
  );
  t.deepEqual(
    networks.events.map(({ type, network }) => [type, network?.name]),
    [
      [EventType.PUT, 'blue'],
      [EventType.PUT, 'green'],
      [EventType.SYNCED, undefined],
    ],
  );

  it.store.putNode(node('n1', '192.0.2.1'));
  lease(it.store, 'blue', '10.100.5.0/24', 'n1', '192.0.2.1');
  it.store.putRecordOf(endpoint('aa', 'blue', 'n1'));
  it.store.putRecordOf(endpoint('bb', 'green', 'n1'));
  await eventually('the lease', () =>
    networks.events.some(({ network }) => network?.leases.length === 1 && network.endpoints === 1),
  );
  await eventually('the node', () => nodes.events.some((event) => event.node?.endpoints === 2));
  await it.store.deleteEndpoint('blue', 'aa');
  await it.store.deleteEndpoint('green', 'bb');
  await it.store.removeNetwork('blue', { force: true });
  await it.store.removeNode('n1', { force: true });
  const deletions = (events: readonly { type: EventType }[]) =>
    events.filter(({ type }) => type === EventType.DELETE);
  await eventually('the ends', () =>
    [networks, nodes, endpoints].every(({ events }) => deletions(events).length === 1),
  );
  t.like(deletions(networks.events)[0], { network: { name: 'blue' } });
  t.like(deletions(nodes.events)[0], { node: { name: 'n1' } });
  t.deepEqual(
    endpoints.events.map(({ type, endpoint: about }) => [type, about?.id]),
    [
      [EventType.SYNCED, undefined],
      [EventType.PUT, 'aa'],
      [EventType.DELETE, 'aa'],
    ],
  );
  for (const watch of [networks, nodes, endpoints]) watch.end();
});

test('a slow reader gets the newest state, and memory does not grow with what it missed', async (t) => {
  const it = await started(t);
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  const watch = it.endpoints.watchEndpoints({ network: '', node: '' });
  const seen = new Map<string, string>();
  let events = 0;
  const note = ({ endpoint: about }: { endpoint: { id: string; target: string } | undefined }): void => {
    events += 1;
    if (about !== undefined) seen.set(about.id, about.target);
  };
  watch.on('error', () => undefined);
  watch.pause();
  const filler = 'x'.repeat(2000);
  // 100,000 changes of 50 endpoints: 200 MB, if all were kept.
  for (let round = 0; round < 2000; round++) {
    for (let i = 0; i < 50; i++) {
      const id = `e${i}`;
      it.store.putRecordOf(endpoint(id, 'blue', 'n1', { target: `netns:/${round}/${filler}` }));
    }
    if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
  watch.on('data', note).resume();
  await eventually(
    'the newest of all',
    () => seen.size === 50 && [...seen.values()].every((target) => target.includes('/1999/')),
  );
  t.true(events < 2000, `${events} events`);
  watch.cancel();
});

test('a watch that has ended leaves nothing behind', async (t) => {
  const store = new FakeStore();
  const it = await started(t, store);
  const before = listeners(store);
  for (let i = 0; i < 20; i++) {
    const watch = new Collector(it.endpoints.watchEndpoints({ network: '', node: '' }));
    await eventually('SYNCED', () => watch.events.length === 1);
    watch.end();
  }
  await eventually('the listeners are removed', () => listeners(store) === before);
  t.pass();
});

const listeners = (store: FakeStore): number => store.listenerCount;

test('before the first read of etcd every call fails; while etcd is away reads work and writes fail with the reason', async (t) => {
  const store = new FakeStore({ synced: false });
  const it = await started(t, store);
  t.regex(
    await failureOf(listNetworks(it)),
    /^UNAVAILABLE the controller has not been able to read etcd yet/,
  );
  t.is((await status(it)).health, 'down');
  const waiting = listNetworks(it);
  setTimeout(() => store.sync(), 200);
  t.deepEqual(await waiting, { networks: [] });
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  store.setConnected(false);
  t.is((await listNetworks(it)).networks.length, 1);
  t.regex(
    await failureOf(createNetwork(it, { name: 'red', subnet: '10.103.0.0/16' })),
    /^UNAVAILABLE etcd does not answer/,
  );
  const { health, store: shown, problems } = await status(it);
  t.is(health, 'degraded');
  t.like(shown, { state: 'disconnected', error: 'etcd does not answer', endpoints: ['http://e:1'] });
  t.deepEqual(
    problems.map(({ what }) => what),
    ['etcd'],
  );
});

test('status names a node whose weft is too old', async (t) => {
  const it = await started(t);
  it.store.putNode(node('n1', '192.0.2.1', { version: '0.0.9' }));
  it.store.putNode(node('n2', '192.0.2.2'));
  const { health, problems } = await status(it);
  t.is(health, 'degraded');
  t.is(problems.length, 1);
  t.like(problems[0], { what: 'node n1' });
  t.regex(problems[0]?.why ?? '', /^its weft is 0\.0\.9, and this release works with [\d.]+ and newer$/);
});

test('status shows the controller, the cluster and its problems', async (t) => {
  const it = await started(t);
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  it.store.putNode(node('n1', '192.0.2.1'));
  t.is((await status(it)).health, 'ok');
  it.store.putNode(node('n2', '10.100.0.7'), { alive: false });
  it.store.putNetwork(networkWith('by-hand', '10.100.128.0/20', 7));
  it.store.putBad({ key: '/weft/networks/odd/config', why: 'Backend.Type: "ipsec" is not served' });
  const found = await status(it);
  t.is(found.health, 'degraded');
  t.like(found.node, { name: 'ctl', version: '9.9.9' });
  t.like(found.controller, { state: 'connected', leader: true, nodesUp: 1, nodesDown: 1 });
  t.deepEqual(
    found.networks.map(({ name, vni }) => [name, vni]),
    [
      ['blue', 4096],
      ['by-hand', 7],
    ],
  );
  t.deepEqual(
    found.peers.map(({ node: name, state }) => [name, state]),
    [
      ['n1', 'up'],
      ['n2', 'down'],
    ],
  );
  t.deepEqual(
    found.problems.map(({ what, why }) => `${what}: ${why}`),
    [
      '/weft/networks/odd/config: Backend.Type: "ipsec" is not served',
      'network by-hand: 10.100.128.0/20 overlaps network blue (10.100.0.0/16)',
      'network blue: 10.100.0.0/16 contains 10.100.0.7, the underlay address of node n2',
      'node n2: is down',
    ],
  );
});

test('status: a node that another one replaced, and two of one address, each once', async (t) => {
  const it = await started(t);
  it.store.putNode(node('n1', '192.0.2.1'), { alive: false });
  it.store.putNode(node('anew', '192.0.2.1'));
  it.store.putNode(node('n2', '192.0.2.2'));
  it.store.putNode(node('n3', '192.0.2.2'));
  const { problems } = await status(it);
  t.is(problems.length, 2);
  t.like(problems[0], { what: 'node n1', fix: 'Remove what is left of it: weft node rm n1.' });
  t.regex(problems[0]?.why ?? '', /node anew has its address 192\.0\.2\.1/);
  t.like(problems[1], { what: 'nodes n2 and n3' });
});

test('metrics count calls and describe the cluster', async (t) => {
  const it = await started(t);
  await createNetwork(it, { name: 'blue', subnet: '10.100.0.0/16' });
  await failureOf(getNetwork(it, 'red'));
  it.store.putNode(node('n1', '192.0.2.1'));
  const text = await it.metrics.metrics();
  for (const line of [
    'weft_networks 1',
    'weft_nodes{state="up"} 1',
    'weft_nodes{state="down"} 0',
    'weft_store_connected 1',
    'weft_sessions 0',
    'weft_grpc_requests_total{method="NetworkService/CreateNetwork",code="OK"} 1',
    'weft_grpc_requests_total{method="NetworkService/GetNetwork",code="NOT_FOUND"} 1',
    'weft_grpc_request_seconds_count{method="NetworkService/CreateNetwork"} 1',
  ]) {
    t.true(text.includes(line), line);
  }
});

test('lists say as of when they are while etcd is away', async (t) => {
  const away: string[] = [];
  const it = await startTestController({ asOf: () => away[0] });
  t.teardown(() => it.stop());
  const told = async (): Promise<unknown[]> => {
    const trailers: unknown[] = [];
    const options = { ...within, onTrailer: (of: Metadata) => trailers.push(of.get(AS_OF_KEY)) };
    await call(it.nodes.listNodes.bind(it.nodes), {}, options);
    await call(it.status.getStatus.bind(it.status), {}, options);
    return trailers;
  };
  t.deepEqual(await told(), [[], []]);
  away.push('2026-11-30T12:00:00.000Z');
  t.deepEqual(await told(), [['2026-11-30T12:00:00.000Z'], []]);
});
