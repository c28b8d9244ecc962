// An agent that was killed, and starts on what is left: a torn file, or a container that was being attached.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { Exposure } from '../../agent/exposure.js';
import { PluginAddresses } from '../../agent/plugin-endpoints.js';
import { silentLogger } from '../../daemon/log.js';
import { until } from '../lab/wait.js';
import { attached, path, request, startNode } from './node.js';

const TORN = { code: 'UNAVAILABLE', message: /torn.*etcd/ };

test('by no door is an address given out while a torn file may say that it is in use', async (t) => {
  const before = await startNode(t);
  const { id, ip } = await attached(before, 'c1');
  await until('etcd is told', () => before.store.view.endpoints.get('blue')?.has(id));
  writeFileSync(join(before.stateDir, 'endpoints', `${id}.json`), '{"id":"0123');
  const { kernel, store, stateDir } = before;
  kernel.addContainer(path('c2'));
  const node = await startNode(t, { kernel, store, stateDir });
  const { attacher, reconciler, memberships, endpoints, addresses, publisher, state } = node;
  const parts = { kernel, store, memberships, endpoints, addresses, publisher, state };
  const common = { ...parts, reconciler, log: silentLogger, node: 'n1' };
  // etcd has answered, and what it knows is still to be taken up.
  await t.throwsAsync(attacher.attach(request('c2')), TORN, 'attach and run');
  await t.throwsAsync(new Exposure(common).expose(request('c2')), TORN, 'expose');
  await t.throwsAsync(new PluginAddresses(common).reserve({ network: 'blue', family: 4 }), TORN, 'Docker');
  await node.synced();
  t.is(node.endpoints.get(id)?.ip, ip);
  t.not((await attacher.attach(request('c2'))).ip, ip);
});

test('the address of an endpoint that cannot be taken up again does not count as free', async (t) => {
  const before = await startNode(t);
  const { id, ip } = await attached(before, 'c1');
  await until('etcd is told', () => before.store.view.endpoints.get('blue')?.has(id));
  writeFileSync(join(before.stateDir, 'endpoints', `${id}.json`), '{"id":"0123');
  const { kernel, store, stateDir } = before;
  const node = await startNode(t, { kernel, store, stateDir });
  const save = node.state.saveEndpoint.bind(node.state);
  node.state.saveEndpoint = () => {
    throw new Error('no space');
  };
  await node.synced();
  node.state.saveEndpoint = save;
  t.true(node.problems.list().some(({ why }) => why.includes('no space')));
  t.not((await attached(node, 'c2')).ip, ip);
});
