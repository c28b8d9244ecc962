// Endpoints of several managers on one node.
//
// Each is found by its manager's key, and removed only by its manager.
import test from 'ava';

import { EndpointPorts } from '../../../agent/endpoints/endpoint-ports.js';
import { PluginAddresses } from '../../../agent/plugin-host/addresses.js';
import { PluginEndpoints } from '../../../agent/plugin-host/endpoints.js';
import { PluginNetworks } from '../../../agent/plugin-host/networks.js';
import { IpAddress } from '../../../core/address.js';
import type { WeftError } from '../../../core/errors.js';
import { DEFAULT_ROUTE } from '../../../core/objects/index.js';
import type { ForeignKey, Manager } from '../../../core/manager.js';
import { silentLogger } from '../../../daemon/log.js';
import type { PluginHost, SandboxRequest } from '../../../daemon/plugin-host.js';
import { until } from '../../lab/wait.js';
import { attached, path, startNode, type TestNode } from '../node.js';

const NODE = { log: silentLogger, node: 'n1', instance: 'n1' };

/** Plugin hosts, by manager. */
function pluginHosts(
  node: TestNode,
): (manager: Manager) => Pick<PluginHost, 'networks' | 'addresses' | 'endpoints'> {
  const addresses = new PluginAddresses({ ...node, ...NODE });
  const endpointPorts = new EndpointPorts({ ...node, ...NODE });
  const networks = new PluginNetworks({ ...node, ...NODE });
  const endpoints = new PluginEndpoints({ ...node, ...NODE, endpointPorts, servesNames: true });
  return (manager) => ({
    networks: networks.of(manager),
    addresses: addresses.of(manager),
    endpoints: endpoints.of(manager),
  });
}

const cniKey = (ifname: string): ForeignKey => ({
  ...{ manager: 'cni', network: 'lan', containerId: 'c0ffee', ifname },
});

/** CNI's ADD. */
const add = (name: string, ifname = 'eth0'): SandboxRequest => ({
  ...{ key: cniKey(ifname), network: 'blue', sandbox: path(name), name: 'web', aliases: [], ifname },
  ...{ defaultRoute: true, publish: [] },
});

const signal = new AbortController().signal;

test('a CNI container is attached like any other and found by its key, also after a restart', async (t) => {
  const before = await startNode(t);
  const cni = pluginHosts(before)('cni').endpoints;
  before.kernel.addContainer(path('c1'));
  const endpoint = await cni.attach(add('c1'), signal);
  t.like(endpoint, { name: 'web', explicitName: false, manager: 'cni', foreignKey: cniKey('eth0') });
  t.true(before.kernel.has('route default via 10.100.1.1 dev eth0', path('c1')));
  t.is(cni.find(cniKey('eth0'))?.id, endpoint.id);
  t.is(cni.find(cniKey('eth1')), undefined);
  t.is((await cni.attach(add('c1'), signal)).id, endpoint.id, 'a repeated call');
  await until('it is published', () => before.store.view.endpoints.get('blue')?.get(endpoint.id));
  const { kernel, store, stateDir } = before;
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  const again = pluginHosts(node)('cni').endpoints;
  t.is(again.find(cniKey('eth0'))?.id, endpoint.id);
  t.is(node.addresses.holder('blue', endpoint.ip.split('/')[0] ?? ''), endpoint.id);
  await again.disconnect(endpoint.id);
  t.is(again.find(cniKey('eth0')), undefined);
  t.is(node.addresses.holder('blue', endpoint.ip.split('/')[0] ?? ''), undefined);
});

test('a container that returns in another namespace has its key again', async (t) => {
  const node = await startNode(t);
  const cni = pluginHosts(node)('cni').endpoints;
  node.kernel.addContainer(path('c1'));
  const first = await cni.attach(add('c1'), signal);
  node.kernel.addContainer(path('c2'));
  const second = await cni.attach(add('c2'), signal);
  t.not(second.id, first.id);
  await cni.disconnect(first.id);
  t.is(cni.find(cniKey('eth0'))?.id, second.id);
});

test('weft detach fails for endpoints of other managers and names the command of theirs', async (t) => {
  const node = await startNode(t);
  const hosts = pluginHosts(node);
  node.kernel.addContainer(path('c1'));
  const { target } = await hosts('cni').endpoints.attach(add('c1'), signal);
  const refused = await t.throwsAsync<WeftError>(node.attacher.detach('blue', target));
  t.is(refused.code, 'FAILED_PRECONDITION');
  t.regex(refused.next ?? '', /the runtime that made it/);
  t.regex(refused.message, /was connected to network blue by a CNI runtime/);
});

test('a plugin sees only its manager’s endpoints and reservations', async (t) => {
  const node = await startNode(t);
  const hosts = pluginHosts(node);
  const [docker, cni] = [hosts('docker'), hosts('cni')];
  const own = await attached(node, 'c1');
  node.kernel.addContainer(path('c2'));
  const theirs = await cni.endpoints.attach(add('c2'), signal);
  t.deepEqual(
    [docker, cni].map(({ endpoints }) => endpoints.list().map(({ id }) => id)),
    [[], [theirs.id]],
  );
  await docker.endpoints.disconnect(theirs.id);
  await cni.endpoints.disconnect(own.id);
  t.is(node.endpoints.list().length, 2);
  const reserved = await cni.addresses.reserve({ network: 'blue', family: 4 });
  const ip = reserved.ip.split('/')[0] ?? '';
  t.deepEqual([docker.addresses.list(), docker.addresses.find('blue', ip)], [[], undefined]);
  docker.addresses.release('blue', ip);
  t.like(cni.addresses.find('blue', ip), { id: reserved.id, manager: 'cni' });
  cni.addresses.release('blue', ip);
  t.deepEqual(cni.addresses.list(), []);
});

test('ports of a CNI container are opened, and left to its runtime to hold', async (t) => {
  const publish: SandboxRequest['publish'] = [
    { hostIp: '0.0.0.0', hostPorts: { first: 8080, last: 8080 }, port: 80, protocol: 'tcp' },
  ];
  const before = await startNode(t);
  before.kernel.addContainer(path('c1'));
  // podman listens there once the network is set up, and another runtime may do so before.
  before.kernel.boundPorts.add('tcp 0.0.0.0 8080');
  await pluginHosts(before)('cni').endpoints.attach({ ...add('c1'), publish }, signal);
  t.is(before.ports.list().length, 1);
  await t.throwsAsync(attached(before, 'c2', { publish }), { message: /8080/ }, 'weft’s own have one owner');
  const { kernel, store, stateDir } = before;
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  t.deepEqual(
    node.ports.list().map(({ problem }) => problem),
    [undefined],
  );
});

test('labels are kept', async (t) => {
  const node = await startNode(t);
  node.kernel.addContainer(path('c1'));
  const labels = { 'cni.runtime': 'podman', K8S_POD_NAME: 'web' };
  const { id } = await pluginHosts(node)('cni').endpoints.attach({ ...add('c1'), labels }, signal);
  await until('it is published', () => node.store.view.endpoints.get('blue')?.get(id));
  t.deepEqual(node.store.view.endpoints.get('blue')?.get(id)?.labels, labels);
  const { kernel, store, stateDir } = node;
  await node.stop();
  const again = await startNode(t, { kernel, store, stateDir });
  t.deepEqual(again.endpoints.get(id)?.labels, labels);
});

test('what a chained plugin changes stays, and what a container lost is put right when it is checked', async (t) => {
  const node = await startNode(t);
  const cni = pluginHosts(node)('cni').endpoints;
  const inside = node.kernel.addContainer(path('c1'));
  const { id } = await cni.attach(add('c1'), signal);
  t.deepEqual(await cni.repair(id), []);
  inside.changeLink('eth0', { mac: '02:00:00:00:00:99' });
  t.deepEqual(await cni.repair(id), []);
  const steps = node.kernel.applied.length;
  await node.reconciler.compare('asked');
  t.is(node.kernel.applied.length, steps, 'its MAC address stays');
  inside.delete(DEFAULT_ROUTE[4]);
  t.deepEqual(await cni.repair(id), []);
  t.true(node.kernel.has('route default via 10.100.1.1 dev eth0', path('c1')));
  const view = cni.view(id);
  t.like(view, { gateway: '10.100.1.1', mtu: 1450, dns: { search: ['blue.weft'] } });
  t.true(view?.routes.some(({ to, via }) => to === '0.0.0.0/0' && via === '10.100.1.1'));
});

test('an address for another program’s container is kept until that is gone, also after a restart', async (t) => {
  const before = await startNode(t);
  await before.memberships.join('blue');
  before.kernel.addContainer(path('c1'));
  const reserve = { network: 'blue', family: 4, key: cniKey('eth0'), sandbox: path('c1') } as const;
  const made = await pluginHosts(before)('cni').addresses.reserve(reserve);
  await t.throwsAsync(pluginHosts(before)('cni').addresses.reserve({ ...reserve, sandbox: path('never') }), {
    message: /no network namespace/,
  });
  const { kernel, store, stateDir } = before;
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  const reservations = node.state.load().reservations;
  t.deepEqual(reservations, [made]);
  const { addresses } = pluginHosts(node)('cni');
  t.true(addresses.isAlive(made));
  node.kernel.vanish(path('c1'));
  t.false(addresses.isAlive(made));
});

test('a node stays on a network while another manager has endpoints on it', async (t) => {
  const node = await startNode(t);
  const hosts = pluginHosts(node);
  node.kernel.addContainer(path('c1'));
  const { id } = await hosts('cni').endpoints.attach(add('c1'), signal);
  await hosts('docker').networks.leave('blue');
  t.truthy(node.memberships.get('blue'));
  t.truthy(node.endpoints.get(id));
  await hosts('cni').networks.leave('blue');
  t.is(node.memberships.get('blue'), undefined);
  t.true(node.store.view.networks.has('blue'), 'no manager made it');
});

test('an address outside the subnet is free again as soon as its manager has released it', async (t) => {
  const node = await startNode(t);
  const { addresses } = pluginHosts(node)('docker');
  await node.memberships.join('blue');
  const outside = IpAddress.parse('10.100.200.11');
  const wanted = { network: 'blue', family: 4, asked: outside } as const;
  for (let start = 1; start <= 3; start++) {
    t.is((await addresses.reserve(wanted)).ip, '10.100.200.11/32');
    addresses.release('blue', outside.toString());
  }
  // Of a life of the agent that ended before the release was written.
  node.store.setAlive('n1', node.instance);
  node.store.putClaim({ network: 'blue', ip: outside, node: 'n1', endpoint: 'before', state: 'granted' });
  const { id } = await addresses.reserve(wanted);
  t.is(node.store.view.claims.get('blue')?.get(outside.toString())?.endpoint, id);
  addresses.release('blue', outside.toString());
  await until(
    'it is released',
    () => node.store.view.claims.get('blue')?.get(outside.toString()) === undefined,
  );
  node.store.putClaim({ network: 'blue', ip: outside, node: 'n2', endpoint: 'theirs', state: 'granted' });
  await t.throwsAsync(addresses.reserve(wanted), { message: /10\.100\.200\.11 is used by theirs/ });
});

test('an address outside the subnet is reserved again while etcd is away, and stays claimed', async (t) => {
  const node = await startNode(t);
  const { addresses, endpoints } = pluginHosts(node)('docker');
  await node.memberships.join('blue');
  const outside = IpAddress.parse('10.100.200.11');
  const wanted = { network: 'blue', family: 4, asked: outside } as const;
  const holder = (): string | undefined =>
    node.store.view.claims.get('blue')?.get(outside.toString())?.endpoint;
  const connect = async (name: string): Promise<string> => {
    const { id, ip } = await addresses.reserve(wanted);
    node.kernel.addContainer(path(name));
    const key = { manager: 'docker', network: 'blue', endpoint: name } as const;
    const mac = '02:00:00:00:00:0b';
    await endpoints.connect({ id, key, network: 'blue', name, target: name, sandbox: path(name), mac, ip });
    return id;
  };
  const id = await connect('first');
  await until('it is published', () => node.store.view.endpoints.get('blue')?.has(id));
  node.store.setConnected(false);
  await endpoints.disconnect(id);
  addresses.release('blue', outside.toString());
  t.is(await connect('second'), id);
  node.store.setConnected(true);
  node.publisher.kick();
  await until('everything is written', () => node.publisher.pending === 0);
  t.is(holder(), id);
  t.is(node.store.view.endpoints.get('blue')?.get(id)?.name, 'second');
  node.store.setConnected(false);
  await endpoints.disconnect(id);
  addresses.release('blue', outside.toString());
  node.store.setConnected(true);
  node.publisher.kick();
  await until('it is released', () => holder() === undefined);
  node.store.putClaim({ network: 'blue', ip: outside, node: 'n2', endpoint: 'theirs', state: 'granted' });
  node.store.setConnected(false);
  await t.throwsAsync(addresses.reserve(wanted), { code: 'UNAVAILABLE' } as never);
});

test('an address of this node that a gone node claims: what to remove', async (t) => {
  const node = await startNode(t);
  const { addresses } = pluginHosts(node)('docker');
  await node.memberships.join('blue');
  const subnet = node.memberships.get('blue')?.lease.subnet;
  if (subnet === undefined) return t.fail('it has no subnet');
  const asked = subnet.base.plus(77);
  node.store.putClaim({ network: 'blue', ip: asked, node: 'h1', endpoint: 'old', state: 'granted' });
  const next = async (): Promise<unknown> =>
    await addresses
      .reserve({ network: 'blue', family: 4, asked })
      .catch((error: { next?: string }) => error.next);
  t.is(await next(), 'Choose another address, or leave it out.');
  const record = { instance: 'i', version: '', startedAt: '', publicIp: '192.0.2.1' };
  node.store.putNode({ ...record, name: 'h1' }, { alive: false });
  node.store.putNode({ ...record, name: 'n1', instance: node.instance });
  t.is(await next(), 'Remove what is left of it: weft node rm h1.');
});
