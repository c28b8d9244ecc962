// What this node's agent says of a network whose config in etcd it does not serve.
import test from 'ava';

import { nameApi } from '../../../agent/dns/api.js';
import type { Dns } from '../../../agent/dns/dns.js';
import { path, request, startNode } from '../node.js';

test('attaching to it and giving it a name tell why it is not served', async (t) => {
  const { attacher, kernel, store } = await startNode(t);
  store.putBad({ key: '/weft/networks/old/config', why: 'Network is missing; expected text' });
  kernel.addContainer(path('c1'));
  const names = nameApi({ store, networks: () => [], dns: {} as Dns });
  const expected = {
    code: 'FAILED_PRECONDITION',
    message: 'network old: its config is not one that weft serves: Network is missing; expected text',
    next: 'Correct /weft/networks/old/config in etcd, or remove the network: weft network rm old.',
  };
  const attach = () => attacher.attach(request('c1', { network: 'old' }));
  t.like(await t.throwsAsync(attach), expected);
  const add = () => names.add({ name: 'db', ips: ['192.0.2.7'], network: 'old' });
  t.like(await t.throwsAsync(add), expected);
  t.like(await t.throwsAsync(async () => names.list({ network: 'old' })), expected);
  await t.throwsAsync(attacher.attach(request('c1', { network: 'none' })), { code: 'NOT_FOUND' });
});
