// Questions to a node through its session: a stream of answers, as fast as they are read.
import { setTimeout as delay } from 'node:timers/promises';

import test from 'ava';

import { startSession, type SessionOptions } from '../../agent/api/session.js';
import { refusalOf } from '../../controller/rights.js';
import { failedPrecondition } from '../../core/errors.js';
import type { Caller } from '../../daemon/caller.js';
import { channel } from '../../daemon/grpc.js';
import { silentLogger as log } from '../../daemon/log.js';
import { InspectionServiceClient, type NodeAnswer, NodeQuery } from '../../proto/gen/weft/v1/inspection.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import { until } from '../lab/wait.js';
import { Collector, startTestController, type TestController } from './harness.js';
import { node } from './records.js';

type Answering = NonNullable<SessionOptions['answering']>;
type Teardown = { teardown: (stop: () => Promise<void> | void) => void };

async function withAgent(
  t: Teardown,
  answering: Answering,
): Promise<{ it: TestController; client: InspectionServiceClient }> {
  const it = await startTestController();
  t.teardown(() => it.stop());
  it.store.putNode(node('n1', '192.0.2.1'));
  const session = startSession({
    controllers: [it.address],
    hello: { node: 'n1', instance: 'i-n1', version: '0.1.0' },
    status: () => Status.fromPartial({ health: 'ok' }),
    handle: () => Promise.reject(new Error('nothing was expected')),
    answering,
    log,
  });
  t.teardown(() => session.stop());
  await until('the session', () => it.sessions.has('n1'));
  const client = new InspectionServiceClient(it.address, ...channel(it.address, undefined));
  t.teardown(() => client.close());
  return { it, client };
}

const note = (value: string): NodeAnswer => ({ answer: { $case: 'note', value } });
const query = (kind: 'check' | 'bundle', on = 'n1'): NodeQuery =>
  NodeQuery.fromPartial({ node: on, query: { $case: kind, value: {} } });

async function ended(collector: Collector<NodeAnswer>): Promise<string> {
  await until('the end', () => collector.error !== undefined || collector.stream.readableEnded);
  return collector.error?.message ?? '';
}

test('a viewer may read, and neither capture nor release; a node may neither', (t) => {
  const guard = { isPlain: () => false, isRefused: () => false, onUnrestricted: () => undefined };
  const codeOf = (method: string, identity: Caller['identity']): string | undefined =>
    refusalOf(`/weft.v1.${method}`, { identity, serial: '1' }, false, guard)?.code;
  for (const method of ['InspectionService/Inspect', 'IpamService/CheckIpam']) {
    t.is(codeOf(method, { role: 'viewer' }), undefined);
    t.is(codeOf(method, { role: 'node', node: 'n1' }), 'PERMISSION_DENIED');
  }
  for (const method of ['InspectionService/Operate', 'IpamService/ReleaseAddresses']) {
    t.is(codeOf(method, { role: 'admin' }), undefined);
    t.is(codeOf(method, { role: 'viewer' }), 'PERMISSION_DENIED');
  }
});

test('answers arrive in order, and then the stream ends', async (t) => {
  const { client } = await withAgent(t, async (_query, send) => {
    for (let i = 0; i < 100; i++) await send(note(String(i)));
  });
  const got = new Collector(client.inspect(query('check')));
  t.is(await ended(got), '');
  t.deepEqual(
    got.events.map(({ answer }) => answer?.value),
    Array.from({ length: 100 }, (_, i) => String(i)),
  );
});

test('the agent’s own error is that of the call', async (t) => {
  const { client } = await withAgent(t, async (_query, send) => {
    await send(note('first'));
    throw failedPrecondition('it cannot be done', 'Do this first.');
  });
  const got = new Collector(client.inspect(query('check')));
  t.regex(await ended(got), /it cannot be done/);
  t.is(got.events.length, 1);
});

test('an agent that does not begin is told of within 3 s; one that is not there, an unknown one and a wrong method at once', async (t) => {
  const { client } = await withAgent(t, () => new Promise(() => undefined));
  const began = performance.now();
  t.regex(
    await ended(new Collector(client.inspect(query('check')))),
    /node n1: its agent did not answer within 3 s/,
  );
  t.true(performance.now() - began < 5000);
  t.regex(await ended(new Collector(client.inspect(query('check', 'n9')))), /n9/);
  t.regex(await ended(new Collector(client.inspect(query('bundle')))), /not answered by Inspect/);
  t.regex(
    await ended(new Collector(client.inspect(NodeQuery.fromPartial({ node: 'n1' })))),
    /query: not given/,
  );
});

test('a caller that gives up ends the work on the node', async (t) => {
  let isOver = false;
  const { client, it } = await withAgent(t, async (_query, send, signal) => {
    await send(note('it runs'));
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
    isOver = true;
  });
  const got = new Collector(client.operate(query('bundle')));
  await until('the first answer', () => got.events.length === 1);
  got.end();
  await until('the end of the work', () => isOver);
  t.is(it.sessions.count, 1, 'the session goes on');
});

test('a caller that does not read stops the node from sending', async (t) => {
  let sent = 0;
  const part = Buffer.alloc(64 * 1024);
  const { client } = await withAgent(t, async (_query, send) => {
    for (; sent < 1000; sent++)
      await send({ answer: { $case: 'file', value: { name: 'f', bytes: part, isLast: false } } });
  });
  const stream = client.operate(query('bundle'));
  stream.on('error', () => undefined);
  stream.once('data', () => stream.pause());
  await until('some were sent', () => sent > 0);
  let before = -1;
  await until('no more are sent', async () => {
    const isStill = sent === before;
    before = sent;
    await delay(200);
    return isStill;
  });
  t.true(sent < 1000, String(sent));
  stream.cancel();
});
