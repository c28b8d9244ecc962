// Addresses of this host that another host has, too: told, and the node that has them rightly is resolved.
import test from 'ava';

import { Problems } from '../../../agent/health/problems.js';
import { duplicateAddresses } from '../../../agent/underlay/duplicate-addresses.js';
import { silentLogger as log } from '../../../daemon/log.js';
import { node } from '../../controller/records.js';
import { FakeKernel } from '../../fakes/kernel.js';
import { FakeStore } from '../../fakes/store.js';

test('each is a problem while it is there; only that of a node is solicited', async (t) => {
  const [kernel, store, problems] = [new FakeKernel(), new FakeStore(), new Problems()];
  store.putNode(node('h1', '192.0.2.7', { publicIp6: '2001:db8::7' }));
  store.putNode(node('h2', '192.0.2.1', { publicIp6: '2001:db8::8' }));
  const duplicates = duplicateAddresses({ kernel, view: store.view, node: 'h2', problems, log });
  const addresses = ['192.0.2.1/24', '2001:db8::7/64', '2001:db8::8/64', '2001:db8::9/64'];
  const flaws = {
    '2001:db8::7/64': 'duplicate',
    '2001:db8::8/64': 'duplicate',
    '2001:db8::9/64': 'tentative',
  } as const;
  kernel.underlays = [{ name: 'eth0', mtu: 1500, running: true, addresses, flaws }];
  await duplicates.now();
  t.deepEqual(kernel.solicited, ['eth0 2001:db8::7']);
  const [nodes, others, ...more] = problems.list();
  t.deepEqual(more, []);
  t.is(nodes?.what, 'address 2001:db8::7/64 of eth0');
  t.regex(`${nodes?.why} ${nodes?.fix}`, /^node h1 has it, too: .* ip addr del 2001:db8::7\/64 dev eth0/);
  t.regex(others?.why ?? '', /^another host of the link has it, too/);
  kernel.underlays = [{ name: 'eth0', mtu: 1500, running: true, addresses: ['192.0.2.1/24'] }];
  await duplicates.now();
  t.deepEqual(problems.list(), []);
  await duplicates.stop();
});
