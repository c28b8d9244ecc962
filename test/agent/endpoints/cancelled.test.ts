// Cancelled attaches end at once and leave nothing.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { HostEndpoint } from '../../../agent/endpoints/host-endpoint.js';
import { IpAddress } from '../../../core/address.js';
import { parsePublish } from '../../../core/publish.js';
import { silentLogger } from '../../../daemon/log.js';
import { leaseOf, overlay } from '../../core/records.js';
import { until } from '../../lab/wait.js';
import { attached, path, request, startNode, type TestNode } from '../node.js';

/** An address of node n2, whose agent does not answer. */
const THERE = '10.100.2.50';
const ASKED = { ip: IpAddress.parse(THERE) };
const GIVEN_UP = new Error('the caller has given up');

const claimed = ({ store }: TestNode): boolean => store.view.claims.get('blue')?.has(THERE) === true;

/** Everything that an attach may leave behind. */
const traces = (node: TestNode): unknown => ({
  host: node.kernel.dump(),
  container: node.kernel.dump(path('c2')),
  files: readdirSync(join(node.stateDir, 'endpoints')),
  endpoints: node.endpoints.list().map(({ name }) => name),
  ports: [...node.ports.list()],
  holder: node.addresses.holder('blue', THERE),
  claimed: claimed(node),
});

test('an attach that is cancelled while its claim waits ends and leaves nothing', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1');
  node.store.putLease(leaseOf(overlay(), 2, { node: 'n2' }));
  node.kernel.addContainer(path('c2'));
  const before = traces(node);
  const ended = new AbortController();
  const wanted = request('c2', { ...ASKED, name: 'unique', publish: parsePublish('8080:80') });
  const attach = t.throwsAsync(node.attacher.attach(wanted, { signal: ended.signal }), { is: GIVEN_UP });
  await until('its claim waits', () => claimed(node));
  ended.abort(GIVEN_UP);
  await attach;
  t.deepEqual(traces(node), before);
  t.like(await node.attacher.attach({ ...wanted, ip: IpAddress.parse('10.100.1.50') }), { name: 'unique' });
});

test('an attach that is cancelled behind another one of the same container never begins', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1');
  node.store.putLease(leaseOf(overlay(), 2, { node: 'n2' }));
  node.store.putNetwork(overlay({ name: 'red', subnet: '10.101.0.0/16', vni: 4098 }));
  node.kernel.addContainer(path('c2'));
  const [first, second] = [new AbortController(), new AbortController()];
  const waits = node.attacher.attach(request('c2', ASKED), { signal: first.signal });
  await until('the first one’s claim waits', () => claimed(node));
  const behind = node.attacher.attach(request('c2', { network: 'red' }), { signal: second.signal });
  second.abort(GIVEN_UP);
  first.abort(GIVEN_UP);
  await t.throwsAsync(waits, { is: GIVEN_UP });
  await t.throwsAsync(behind, { is: GIVEN_UP });
  t.is(node.memberships.get('red'), undefined, 'its network was not even joined');
});

test('an expose that is cancelled while its claim waits joins no network', async (t) => {
  const node = await startNode(t);
  await attached(node, 'c1');
  node.store.putLease(leaseOf(overlay(), 2, { node: 'n2' }));
  const before = traces(node);
  const ended = new AbortController();
  const host = new HostEndpoint({ ...node, log: silentLogger, node: 'n1' });
  const expose = t.throwsAsync(host.expose(request('host', ASKED), ended.signal), { is: GIVEN_UP });
  await until('its claim waits', () => claimed(node));
  ended.abort(GIVEN_UP);
  await expose;
  t.deepEqual(traces(node), before);
});

test('ports that are published for a cancelled call are closed', async (t) => {
  const node = await startNode(t);
  const { id } = await attached(node, 'c1');
  const gaveUp = AbortSignal.abort(GIVEN_UP);
  const holder = { id, name: 'c1', network: 'blue', node: 'n1', manager: 'weft' } as const;
  const reserve = node.ports.reserve(holder, parsePublish('8080-8090:80-90'), false, [4], gaveUp);
  await t.throwsAsync(reserve, { is: GIVEN_UP });
  t.deepEqual([...node.ports.list()], []);
  t.is((await node.ports.reserve(holder, parsePublish('8080:80'), false, [4])).length, 1);
});
