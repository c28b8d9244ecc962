// Restart of a killed agent on a torn file or a half-attached container.
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { HostEndpoint } from '../../agent/endpoints/host-endpoint.js';
import { PluginAddresses } from '../../agent/plugin-host/addresses.js';
import { silentLogger } from '../../daemon/log.js';
import { overlay } from '../core/records.js';
import { until } from '../lab/wait.js';
import { attached, path, request, startNode } from './node.js';

const TORN = { code: 'UNAVAILABLE', message: /torn.*etcd/ };

test('no manager allocates an address that a torn file may hold', async (t) => {
  const before = await startNode(t);
  const { id, ip } = await attached(before, 'c1');
  await until('etcd has the endpoint', () => before.store.view.endpoints.get('blue')?.has(id));
  writeFileSync(join(before.stateDir, 'endpoints', `${id}.json`), '{"id":"0123');
  const { kernel, store, stateDir } = before;
  kernel.addContainer(path('c2'));
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  const { attacher, reconciler, memberships, endpoints, addresses, publisher, state } = node;
  const parts = { kernel, store, memberships, endpoints, addresses, publisher, state };
  const common = { ...parts, reconciler, log: silentLogger, node: 'n1' };
  // etcd has answered, and its records are still to be restored.
  await t.throwsAsync(attacher.attach(request('c2')), TORN, 'attach and run');
  await t.throwsAsync(new HostEndpoint(common).expose(request('c2')), TORN, 'expose');
  const forDocker = new PluginAddresses(common).of('docker');
  await t.throwsAsync(forDocker.reserve({ network: 'blue', family: 4 }), TORN, 'Docker');
  await node.synced();
  t.is(node.endpoints.get(id)?.ip, ip);
  t.not((await attacher.attach(request('c2'))).ip, ip);
});

test('the address of an endpoint that cannot be restored is not free', async (t) => {
  const before = await startNode(t);
  const { id, ip } = await attached(before, 'c1');
  await until('etcd has the endpoint', () => before.store.view.endpoints.get('blue')?.has(id));
  writeFileSync(join(before.stateDir, 'endpoints', `${id}.json`), '{"id":"0123');
  const { kernel, store, stateDir } = before;
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  const save = node.state.saveEndpoint.bind(node.state);
  node.state.saveEndpoint = () => {
    throw new Error('no space');
  };
  await node.synced();
  node.state.saveEndpoint = save;
  t.true(node.problems.list().some(({ why }) => why.includes('no space')));
  t.not((await attached(node, 'c2')).ip, ip);
  // As after a first list that failed.
  await node.synced();
  t.is(node.endpoints.get(id)?.ip, ip);
  t.deepEqual(node.problems.list(), []);
});

test('an attach repeated after a kill in its middle gives the container its name and default route', async (t) => {
  const before = await startNode(t);
  await attached(before, 'c0');
  const { kernel, store, stateDir } = before;
  kernel.addContainer(path('c1'));
  await before.attacher.attach(request('c1'));
  // The remains of a SIGKILL between the kernel and the state directory.
  before.state.deleteEndpoint(before.endpoints.list().find(({ name }) => name === 'c1')?.id ?? '');
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  const again = await node.attacher.attach(request('c1'));
  t.like(again, { ifname: 'eth0', defaultRoute: true });
  await node.synced();
  t.true(kernel.has('route default via 10.100.1.1 dev eth0', path('c1')));
  t.is(kernel.dump(path('c1')).match(/^link eth/gm)?.length, 1);
});

test('an attach leaves links of records, torn files and other agents alone', async (t) => {
  const before = await startNode(t);
  before.store.putNetwork(overlay({ name: 'red', subnet: '10.101.0.0/16', vni: 4098 }));
  const { kernel, store, stateDir } = before;
  const hands = kernel.addContainer(path('c1'));
  const first = await before.attacher.attach(request('c1'));
  // The container is itself a node of weft: the ends of its own containers.
  const end = { kind: 'link', type: 'peer', mtu: 1450 } as const;
  hands.addLink('wfep1', { ...end, name: 'wfep1', mac: '02:77:0a:01:01:02' }, true);
  hands.addLink('pl1', { ...end, name: 'pl1', mac: '5e:12:34:56:78:9a' }, true);
  await before.attachments.attach({
    host: 'br1',
    guest: `netns:${path('c1')}`,
    ifname: 'eth5',
    address: '10.9.0.2/24',
  });
  const links = (): string[] => kernel.dump(path('c1')).match(/^link \S+/gm) ?? [];
  await before.attacher.attach(request('c1', { network: 'red' }));
  t.deepEqual(links(), ['link eth0', 'link eth1', 'link eth5', 'link lo', 'link pl1', 'link wfep1']);
  await before.attacher.detach('red', first.target);
  await until('etcd has the endpoint', () => store.view.endpoints.get('blue')?.has(first.id));
  writeFileSync(join(stateDir, 'endpoints', `${first.id}.json`), '{"id":"0123');
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  await t.throwsAsync(node.attacher.attach(request('c1', { network: 'red' })), TORN);
  t.true(links().includes('link eth0'), 'a torn file may record it');
});

test('a torn file of a former subnet has advice of its own', async (t) => {
  const before = await startNode(t);
  await before.memberships.join('blue');
  await before.memberships.leave('blue');
  const { kernel, store, stateDir } = before;
  const file = join(stateDir, 'former-subnets', '10.100.0.0-16.json');
  t.true(existsSync(file));
  writeFileSync(file, '{"whole":"10.1');
  await before.stop();
  const node = await startNode(t, { kernel, store, stateDir });
  await node.synced();
  const [problem, ...more] = node.problems.list();
  t.deepEqual(more, []);
  t.is(problem?.what, `the state file ${file}.torn`);
  t.regex(problem?.fix ?? '', /^Delete it\. .* has left/);
});
