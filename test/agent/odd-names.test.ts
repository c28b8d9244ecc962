// Networks named like weft's own words are not confused with anything else.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { endpointScope, networkScope } from '../../agent/health/problem-key.js';
import { overlay } from '../core/records.js';
import { until } from '../lab/wait.js';
import { attached, path, startNode, type TestNode } from './node.js';

const NAMES = ['on', 'inside', 'node', 'network', 'sysctl', 'link', 'claim', 'conflict', 'step'];

async function pipework(node: TestNode, container: string, address: string): Promise<void> {
  node.kernel.addContainer(path(container));
  await node.attachments.attach({ host: 'brx', guest: `netns:${path(container)}`, ifname: 'eth1', address });
}

const lines = (node: TestNode): string[] => node.kernel.dump().split('\n');

/** Removes a network in etcd, as `weft network rm --force` does. */
async function removed(node: TestNode, name: string): Promise<void> {
  await node.store.removeNetwork(name, { force: true });
  await node.memberships.handle([{ kind: 'network', name }]);
}

for (const name of NAMES) {
  test(`removing a network "${name}" deletes its own objects and nothing else`, async (t) => {
    const node = await startNode(t);
    await attached(node, 'blue1');
    await pipework(node, 'p1', '192.168.1.1/24');
    await pipework(node, 'p2', '192.168.1.2/24');
    const before = lines(node);
    node.store.putNetwork(overlay({ name, subnet: '10.120.0.0/16', vni: 77 }));
    const endpoint = await attached(node, 'c1', { network: name });
    t.is(endpoint.network, name);
    t.deepEqual(node.problems.list(), []);
    await node.attacher.detach(name, endpoint.target);
    await removed(node, name);
    t.is(node.memberships.get(name), undefined);
    t.deepEqual(lines(node), before);
    await node.reconciler.compare('interval');
    t.deepEqual(lines(node), before);
    t.deepEqual(node.problems.list(), []);
  });

  test(`removing a network "${name}" clears its own and its endpoints' problems only`, async (t) => {
    const node = await startNode(t);
    node.store.putNetwork(overlay({ name, subnet: '10.120.0.0/16', vni: 77 }));
    const endpoint = await attached(node, 'c1', { network: name });
    const other = await attached(node, 'c2');
    // A folder in its place keeps the file from being written.
    const file = join(node.stateDir, 'subnets', `${name}.env`);
    rmSync(file);
    mkdirSync(file);
    await node.memberships.underlayChanged();
    const what = `the subnet.env file of network ${name}`;
    const shown = await until('it is a problem', () => node.problems.list().find((one) => one.what === what));
    t.true(shown.why !== '' && shown.fix.includes(node.stateDir));
    node.problems.set(
      { scope: endpointScope(other), kind: 'port', id: name },
      { what: 'a port', why: 'x', fix: 'y' },
    );
    node.problems.set(
      { scope: endpointScope(endpoint), kind: 'port', id: name },
      { what: 'its port', why: 'x', fix: 'y' },
    );
    await node.attacher.detach(name, endpoint.target);
    t.deepEqual(
      node.problems.list().map((one) => one.what),
      [what, 'a port'],
    );
    rmSync(file, { recursive: true });
    await removed(node, name);
    t.is(node.problems.get({ scope: networkScope(name), kind: 'subnet-env' }), undefined);
    t.deepEqual(
      node.problems.list().map((one) => one.what),
      ['a port'],
    );
  });
}
