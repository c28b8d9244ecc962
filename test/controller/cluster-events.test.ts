// Events of the cluster: told by nodes over their sessions, merged and bounded by the controller, and asked for.
import test from 'ava';

import { startSession } from '../../agent/api/session.js';
import { ClusterEvents } from '../../controller/cluster-events.js';
import { refusalOf } from '../../controller/rights.js';
import { EventLog } from '../../daemon/event-log.js';
import { silentLogger as log } from '../../daemon/log.js';
import { Event } from '../../proto/gen/weft/v1/events.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import { freePort } from '../lab/free-port.js';
import { eventually, startTestController } from './harness.js';
import { node } from './records.js';

const own = (): EventLog => new EventLog({ path: undefined, node: '', log });

const told = (sequence: number, about: Partial<Event> = {}): Event =>
  Event.fromPartial({
    time: new Date(Date.UTC(2026, 10, 30) + sequence * 1000).toISOString(),
    type: 'normal',
    reason: 'joined',
    object: 'network/blue',
    count: 1,
    sequence,
    ...about,
  });

test('a controller that starts anew is told everything again, and each event once', async (t) => {
  const events = new EventLog({ path: undefined, node: 'n1', log });
  for (let i = 0; i < 250; i++) events.record({ reason: 'joined', object: `network/n${i}`, message: '' });
  const listen = `127.0.0.1:${await freePort()}`;
  const session = startSession({
    controllers: [listen],
    hello: { node: 'n1', instance: 'i-n1', version: '0.1.0' },
    status: () => Status.fromPartial({ health: 'ok' }),
    handle: () => Promise.reject(new Error('nothing was expected')),
    events,
    log,
  });
  t.teardown(() => session.stop());
  const objects = Array.from({ length: 250 }, (_, i) => `network/n${i}`);
  for (let run = 0; run < 2; run++) {
    const controller = await startTestController({ listen });
    controller.store.putNode(node('n1', '192.0.2.1'));
    await eventually('the events', () => controller.events.list().length >= objects.length);
    events.record({ reason: 'left', object: `network/r${run}`, message: 'it was removed' });
    objects.push(`network/r${run}`);
    await eventually('the next one', () => controller.events.list().length >= objects.length);
    t.deepEqual(
      controller.events.list().map(({ object }) => object),
      objects,
    );
    t.deepEqual([...new Set(controller.events.list().map((event) => event.node))], ['n1']);
    await controller.stop();
  }
});

test('what a node tells is its own, checked, once each, and in bounds', (t) => {
  const events = new ClusterEvents(own(), { node: 10, all: 15, text: 20 });
  t.is(events.take('h1', 'i', [told(1, { node: 'h2', type: 'warning' }), told(2), told(2)]), 2);
  t.is(events.take('h1', 'i', [told(1), told(2), told(3, { message: 'x'.repeat(500) })]), 3);
  t.deepEqual(
    events.list().map((event) => [event.node, event.type, event.sequence, event.message.length]),
    [
      ['h1', 'normal', 1, 0],
      ['h1', 'normal', 2, 0],
      ['h1', 'normal', 3, 20],
    ],
  );
  // What cannot be is left out, and not asked for again.
  t.is(
    events.take('h1', 'i', [
      told(3.5, { reason: 'toString' }),
      told(4, { reason: 'hacked' }),
      told(5, { time: 'yesterday' }),
    ]),
    5,
  );
  t.is(events.list().length, 3);
  t.is(events.lastOf('h1', 'i'), 5);
  t.is(events.lastOf('h1', 'another'), 0);
  events.take(
    'h2',
    'i',
    Array.from({ length: 300 }, (_, i) => told(i + 1)),
  );
  t.is(events.list().filter((event) => event.node === 'h2').length, 10);
  // One that tells much does not push out what others told.
  for (let i = 0; i < 50; i++) events.take(`m${i % 3}`, 'i', [told(1000 + i)]);
  t.true(events.list().length <= 15);
  t.is(events.list().filter((event) => event.node === 'h1').length, 3);
});

test('what people do has their name; what is refused did not happen', (t) => {
  const events = new ClusterEvents(own());
  const entry = { time: '', id: '', peer: '192.0.2.9:4711', ms: 1 };
  const admin = { role: 'admin', serial: '5E1F' };
  const deletion = { method: 'NetworkService/DeleteNetwork', object: { name: 'blue' } };
  events.audited({ ...entry, ...deletion, actor: admin, code: 'OK' });
  events.audited({ ...entry, ...deletion, actor: { role: 'viewer' }, code: 'PERMISSION_DENIED' });
  events.audited({ ...entry, ...deletion, method: 'IdentityService/DeleteToken', actor: admin, code: 'OK' });
  t.deepEqual(
    events.list().map(({ reason, object, actor, message }) => ({ reason, object, actor, message })),
    [
      {
        reason: 'removed',
        object: 'network/blue',
        actor: 'admin, certificate 5E1F',
        message: 'by DeleteNetwork from 192.0.2.9',
      },
    ],
  );
});

test('nodes come, go down, come back and leave', async (t) => {
  const controller = await startTestController();
  t.teardown(() => controller.stop());
  const { store, registry, events } = controller;
  store.putNode(node('n1', '192.0.2.1'));
  const ending = new AbortController();
  t.teardown(() => ending.abort());
  events.follow(registry, store, ending.signal);
  await eventually('the first list', () => store.isSynced);
  await new Promise(setImmediate);
  store.putNode(node('n2', '192.0.2.2'));
  t.deepEqual(
    events.list().map(({ reason, object }) => [reason, object]),
    [['joined', 'node/n2']],
  );
});

test('events are for people: a node’s certificate does not read them', (t) => {
  const guard = { isPlain: () => false, isRefused: () => false, onUnrestricted: () => undefined };
  const asks = (identity: Parameters<typeof refusalOf>[1]['identity']): string | undefined =>
    refusalOf('/weft.v1.EventService/WatchEvents', { identity, serial: '1' }, false, guard)?.code;
  t.is(asks({ role: 'viewer' }), undefined);
  t.is(asks({ role: 'admin' }), undefined);
  t.is(asks({ role: 'node', node: 'h1' }), 'PERMISSION_DENIED');
});
