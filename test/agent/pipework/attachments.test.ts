// A failed attachment leaves its container unchanged.
//
// That includes a default route of another program.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import type { WeftError } from '../../../core/errors.js';
import { breakFolder, path, startNode, type TestNode } from '../node.js';

const UNOWNED = 'route default via 172.17.0.1 dev eth0 (unowned)';

/** A container with another program's network. */
function container({ kernel }: TestNode): void {
  const hands = kernel.addContainer(path('c1'));
  hands.changeLink('lo', {});
  hands.addLink('eth0', { kind: 'link', type: 'peer', name: 'eth0', mac: '02:42:ac:11:00:02', mtu: 1500 });
  hands.put({ kind: 'address', link: 'eth0', address: '172.17.0.2/16' });
  hands.put({ kind: 'route', to: '0.0.0.0/0', via: '172.17.0.1', link: 'eth0' });
}

const attachment = { host: 'br1', guest: `netns:${path('c1')}`, ifname: 'eth1' };
const withGateway = { ...attachment, address: '10.9.0.2/24', gateway: '10.9.0.1' };

test('an attachment that cannot be saved leaves the default route unchanged', async (t) => {
  const node = await startNode(t);
  container(node);
  const before = node.kernel.dump(path('c1'));
  t.true(before.includes(UNOWNED));
  const repair = breakFolder(node, 'wires');
  const refused = await t.throwsAsync<WeftError>(node.attachments.attach(withGateway));
  t.true(refused.message.includes(node.stateDir));
  t.true(refused.next?.includes('writable'));
  t.is(node.kernel.dump(path('c1')), before);
  t.deepEqual(readdirSync(join(node.stateDir, 'wire-places')), [], 'no host interface is prepared');
  repair();
  await node.attachments.attach(withGateway);
  t.true(node.kernel.has('route default via 10.9.0.1 dev eth1', path('c1')));
});

test('an attachment whose default route the kernel rejects is not saved', async (t) => {
  const node = await startNode(t);
  container(node);
  const before = node.kernel.dump(path('c1'));
  node.kernel.failSteps((step) => step.do === 'put' && step.object.kind === 'route');
  await t.throwsAsync(node.attachments.attach(withGateway), { message: /refused the default route/ });
  t.is(node.kernel.dump(path('c1')), before);
  t.deepEqual(readdirSync(join(node.stateDir, 'wires')), []);
  t.deepEqual(node.attachments.list(), []);
});
