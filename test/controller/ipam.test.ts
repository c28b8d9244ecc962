// Findings about addresses, and when they may be released.
import test from 'ava';

import { startSession } from '../../agent/api/session.js';
import { findingsOf, type Seen } from '../../controller/ipam-findings.js';
import { IpAddress } from '../../core/address.js';
import { call } from '../../daemon/grpc.js';
import { silentLogger as log } from '../../daemon/log.js';
import { LocalEndpoint } from '../../proto/gen/weft/v1/inspection.js';
import { Endpoint, Status } from '../../proto/gen/weft/v1/types.js';
import { FakeStore } from '../fakes/store.js';
import { until } from '../lab/wait.js';
import { failureOf, startTestController, type TestController } from './harness.js';
import { endpoint, FakeClock, lease, networkWith, node } from './records.js';

const A = 'a'.repeat(16);
const B = 'b'.repeat(16);

function storeWith(): FakeStore {
  const store = new FakeStore();
  store.putNetwork(networkWith('blue', '10.100.0.0/16', 4096));
  store.putNode(node('n1', '192.0.2.1'));
  store.putRecordOf(endpoint(A, 'blue', 'n1', { name: 'web' }));
  return store;
}

const local = (id: string, more: Partial<LocalEndpoint> = {}): LocalEndpoint =>
  LocalEndpoint.fromPartial({
    network: 'blue',
    id,
    name: 'web',
    ip: '10.100.5.2/24',
    target: 'netns:/run/netns/c1',
    isThere: true,
    ...more,
  });

const look = (store: FakeStore, more: Partial<Seen> = {}) =>
  findingsOf({ view: store.view, local: new Map(), ends: () => undefined, now: 0, ...more });

test('nothing is found where all agree, and nothing of a node that cannot be asked', (t) => {
  const store = storeWith();
  t.deepEqual(look(store, { local: new Map([['n1', [local(A)]]]) }), []);
  t.deepEqual(look(store), []);
});

test('each disagreement is a finding of its own kind', (t) => {
  const store = storeWith();
  lease(store, 'blue', '10.100.5.0/24', 'n1', '192.0.2.1');
  lease(store, 'blue', '10.100.7.0/24', 'gone', '192.0.2.7');
  store.putRecordOf(endpoint(B, 'blue', 'gone', { name: 'db', ip: '10.100.5.2/24' }));
  store.putClaim({
    network: 'blue',
    ip: IpAddress.parse('10.100.9.9'),
    node: 'gone',
    endpoint: B,
    state: 'granted',
  });
  const found = look(store, {
    local: new Map([
      ['n1', [local(A, { isThere: false }), local('c'.repeat(16), { name: 'new', ip: '10.100.5.7/24' })]],
    ]),
    ends: ({ node: of }) => (of === 'n1' ? 60_000 : undefined),
  });
  t.deepEqual(
    found.map(({ kind, address, node: of, release }) => [kind, address, of, release?.do ?? 'no']),
    [
      ['claim-of-no-node', '10.100.9.9', 'gone', 'delete-claim'],
      ['container-without-endpoint', '10.100.5.7/24', 'n1', 'no'],
      ['duplicate', '10.100.5.2', 'n1', 'no'],
      ['endpoint-of-no-node', '10.100.5.2/24', 'gone', 'delete-endpoint'],
      ['endpoint-without-container', '10.100.5.2/24', 'n1', 'detach'],
      ['lease-ending', '10.100.5.0/24', 'n1', 'no'],
      ['lease-of-no-node', '10.100.7.0/24', 'gone', 'release-lease'],
    ],
  );
  t.is(new Set(found.map(({ id }) => id)).size, found.length);
});

test('an endpoint that its node does not have is deleted in etcd alone', (t) => {
  const [found] = look(storeWith(), { local: new Map([['n1', []]]) });
  t.like(found, { kind: 'endpoint-without-container', release: { do: 'delete-endpoint', id: A } });
});

const ask = (it: TestController) =>
  call(it.ipam.checkIpam.bind(it.ipam), {}, { peer: 'c', deadlineMs: 5000 });
const release = (it: TestController, ids: string[]) =>
  call(it.ipam.releaseAddresses.bind(it.ipam), { ids }, { peer: 'c', deadlineMs: 5000 });

test('two looks at least two minutes apart must agree, and a look between that does not starts again', async (t) => {
  const clock = new FakeClock();
  const store = storeWith();
  const controller = await startTestController({ store, clock });
  t.teardown(() => controller.stop());
  let answers = [local(A)];
  const session = startSession({
    controllers: [controller.address],
    hello: { node: 'n1', instance: 'i-n1', version: '0.1.0' },
    status: () => Status.fromPartial({ health: 'ok' }),
    handle: () => Promise.resolve({ $case: 'endpoint', value: Endpoint.fromPartial({}) }),
    answering: async (_query, send) => {
      for (const value of answers) await send({ answer: { $case: 'endpoint', value } });
    },
    log,
  });
  t.teardown(() => session.stop());
  await until('the session', () => controller.sessions.has('n1'));

  t.deepEqual(await ask(controller), { findings: [], notes: [] });
  answers = [];
  const [first] = (await ask(controller)).findings;
  t.like(first, { kind: 'endpoint-without-container', safe: false, safeFrom: '2026-01-01T12:02:00.000Z' });
  const id = first?.id ?? '';
  clock.pass(119_000);
  t.regex(
    await failureOf(release(controller, [id])),
    /FAILED_PRECONDITION .*under way\nRelease it after 2026-01-01T12:02/,
  );
  // It was there again in between.
  answers = [local(A)];
  await ask(controller);
  answers = [];
  await ask(controller);
  clock.pass(60_000);
  t.regex(await failureOf(release(controller, [id])), /^FAILED_PRECONDITION/);
  clock.pass(61_000);
  t.true((await ask(controller)).findings[0]?.safe);
  t.is((await release(controller, [id])).released[0]?.id, id);
  t.false(store.view.endpoints.get('blue')?.has(A) ?? false);
  t.regex(await failureOf(release(controller, [id])), /^NOT_FOUND/);
});

test('without etcd nothing is known for sure', async (t) => {
  const store = storeWith();
  const controller = await startTestController({ store });
  t.teardown(() => controller.stop());
  store.setConnected(false);
  t.regex(await failureOf(ask(controller)), /^UNAVAILABLE etcd is not reached/);
});
