// Sessions between agents and a controller: both sides over a real connection.
import { createServer, type Server, type Socket } from 'node:net';

import test from 'ava';

import {
  startSession,
  type Session,
  type SessionOptions,
  type SessionRequest,
} from '../../agent/api/session.js';
import { failedPrecondition } from '../../core/errors.js';
import { call, channel } from '../../daemon/grpc.js';
import type { Fields, Logger } from '../../daemon/log.js';
import { silentLogger } from '../../daemon/log.js';
import { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import { SessionServiceClient, type AgentMessage } from '../../proto/gen/weft/v1/session.js';
import { Endpoint, Status } from '../../proto/gen/weft/v1/types.js';
import { FakeStore } from '../fakes/store.js';
import { freePort } from '../lab/free-port.js';
import { eventually, failureOf, startTestController, type TestController } from './harness.js';
import { endpoint, FakeClock, node, networkWith } from './records.js';

type Teardown = { teardown: (stop: () => Promise<void>) => void };

async function controllerFor(
  t: Teardown,
  options: Parameters<typeof startTestController>[0] = {},
): Promise<TestController> {
  const controller = await startTestController(options);
  t.teardown(() => controller.stop());
  return controller;
}

function agentFor(t: Teardown, controllers: string[], options: Partial<SessionOptions> = {}): Session {
  const session = startSession({
    controllers,
    hello: { node: 'n1', instance: 'i-n1', version: '0.1.0' },
    status: () => Status.fromPartial({ health: 'ok' }),
    handle: () => Promise.reject(new Error('nothing was expected')),
    log: silentLogger,
    ...options,
  });
  t.teardown(() => session.stop());
  return session;
}

/** A controller with network blue and node n1. */
async function withNode(t: Teardown, clock?: FakeClock): Promise<TestController> {
  const controller = await controllerFor(t, clock && { clock });
  controller.store.putNetwork(networkWith('blue', '10.100.0.0/16', 4096));
  controller.store.putNode(node('n1', '192.0.2.1'));
  return controller;
}

const attach = (it: TestController, request: Partial<AttachRequest>, deadlineMs = 5000, on = 'n1') =>
  call(
    it.endpoints.createEndpoint.bind(it.endpoints),
    { node: on, attach: AttachRequest.fromPartial({ network: 'blue', target: 'c1', ...request }) },
    { peer: 'the controller', deadlineMs },
  );

test('an agent reports at once, and again when something changed', async (t) => {
  const controller = await withNode(t);
  let problems = 1;
  let asked = 0;
  const session = agentFor(t, [controller.address], {
    status: () => {
      asked += 1;
      return Status.fromPartial({
        networks: [{ name: 'blue', mtu: 1400 }],
        problems: Array.from({ length: problems }, () => ({ what: 'a', why: 'b', fix: 'c' })),
      });
    },
  });
  await eventually('the report', () => controller.registry.get('n1').problems.length === 1);
  t.deepEqual(session.state(), { state: 'connected', address: controller.address, error: '' });
  t.deepEqual(controller.registry.get('n1').networks, ['blue']);
  controller.store.putRecordOf(endpoint('aa', 'blue', 'n1'));
  const shown = await call(
    controller.endpoints.getEndpoint.bind(controller.endpoints),
    { id: 'aa' },
    { peer: 'c', deadlineMs: 8000 },
  );
  t.is(shown.mtu, 1400);

  problems = 2;
  const before = asked;
  for (let i = 0; i < 50; i++) session.changed();
  await eventually('the second report', () => controller.registry.get('n1').problems.length === 2);
  t.is(asked, before + 1);
  await session.stop();
  await eventually('the end of the session', () => controller.sessions.count === 0);
  t.is(controller.registry.get('n1').problems.length, 2);
});

test('a report in which nothing is new is a sign of life, and takes nothing away', async (t) => {
  const controller = await withNode(t);
  const session = agentFor(t, [controller.address], {
    status: () => Status.fromPartial({ problems: [{ what: 'a', why: 'b', fix: 'c' }] }),
  });
  await eventually('the report', () => controller.registry.get('n1').problems.length === 1);
  const report = controller.sessions.reportOf('n1');
  const { at = 0, status } = report ?? {};
  session.changed();
  await eventually('the sign of life', () => (controller.sessions.reportOf('n1')?.at ?? 0) > at);
  t.is(controller.sessions.reportOf('n1')?.status, status);
});

test('attach and detach are forwarded, and the agent’s answer is returned', async (t) => {
  const controller = await withNode(t);
  const requests: SessionRequest[] = [];
  agentFor(t, [controller.address], {
    handle: async (request) => {
      requests.push(request);
      const target = 'target' in request.value ? request.value.target : '';
      if (target === 'gone') throw failedPrecondition('target: gone has ended', 'Start it.');
      if (target === 'fault') throw new TypeError('x is undefined');
      return {
        $case: 'endpoint',
        value: Endpoint.fromPartial({ id: 'aa', name: 'c1', ip: '10.100.5.2/24' }),
      };
    },
  });
  await eventually('the session', () => controller.sessions.has('n1'));
  t.like(await attach(controller, { name: 'web', aliases: ['www'], ip: '10.100.5.2' }), {
    id: 'aa',
    ip: '10.100.5.2/24',
  });
  t.like(requests[0], {
    $case: 'attach',
    value: { network: 'blue', name: 'web', aliases: ['www'], ip: '10.100.5.2' },
  });
  t.is(
    await failureOf(attach(controller, { target: 'gone' })),
    'FAILED_PRECONDITION target: gone has ended\nStart it.',
  );
  t.regex(
    await failureOf(attach(controller, { target: 'fault' })),
    /^INTERNAL a fault in weft: x is undefined/,
  );

  controller.store.putRecordOf(endpoint('aa', 'blue', 'n1', { target: 'netns:/run/netns/c1' }));
  const { endpoints } = controller;
  await call(endpoints.deleteEndpoint.bind(endpoints), { id: 'aa' }, { peer: 'c', deadlineMs: 8000 });
  t.deepEqual(requests.at(-1), {
    $case: 'detach',
    value: { network: 'blue', target: 'netns:/run/netns/c1' },
  });

  for (const [request, message] of [
    [{ target: '' }, /^INVALID_ARGUMENT target: not given/],
    [{ name: 'a b' }, /^INVALID_ARGUMENT name: "a b"/],
    [{ aliases: ['ok', '-x'] }, /^INVALID_ARGUMENT alias: "-x"/],
    [{ ip: 'fd42::1' }, /^INVALID_ARGUMENT ip: fd42::1 is not an IPv4 address\nGive it as ip6/],
    [{ mac: '01:00:00:00:00:01' }, /^INVALID_ARGUMENT mac: .* multicast/],
    [{ network: 'red' }, /^NOT_FOUND network red/],
  ] as const) {
    t.regex(await failureOf(attach(controller, request as Partial<AttachRequest>)), message);
  }
});

test('a request that cannot be forwarded fails with the reason', async (t) => {
  const clock = new FakeClock();
  const controller = await withNode(t, clock);
  t.regex(
    await failureOf(attach(controller, {})),
    /^UNAVAILABLE node n1: its agent has no session with this controller\n/,
  );
  t.regex(await failureOf(attach(controller, {}, 5000, 'n9')), /^NOT_FOUND node n9/);
  controller.store.setAlive('n1', undefined);
  clock.pass(500);
  t.regex(await failureOf(attach(controller, {})), /^UNAVAILABLE node n1: is down/);
});

test('a request ends with its caller, with the session, and at its deadline', async (t) => {
  const clock = new FakeClock();
  const controller = await controllerFor(t, { clock });
  let waiting = 0;
  const session = agentFor(t, [controller.address], {
    handle: () => {
      waiting += 1;
      return new Promise(() => undefined);
    },
  });
  await eventually('the session', () => controller.sessions.has('n1'));
  const request = (signal = new AbortController().signal) =>
    controller.sessions.request('n1', { $case: 'detach', value: { network: 'blue', target: 'c1' } }, signal);
  const caller = new AbortController();
  const givenUp = failureOf(request(caller.signal));
  const late = failureOf(request());
  await eventually('two requests', () => waiting === 2);
  caller.abort();
  t.regex(await givenUp, /^ABORTED/);
  clock.pass(10_000);
  t.regex(await late, /^DEADLINE_EXCEEDED node n1: its agent did not answer within 10 s/);
  const cut = failureOf(request());
  await eventually('the third', () => waiting === 3);
  await session.stop();
  t.regex(await cut, /^UNAVAILABLE node n1: the session with its agent has ended/);
});

test('a second agent of a name is refused while the first is connected', async (t) => {
  const controller = await withNode(t);
  const first = agentFor(t, [controller.address]);
  await eventually('the first', () => first.state().state === 'connected');
  const second = agentFor(t, [controller.address], {
    hello: { node: 'n1', instance: 'other', version: '0.1.0' },
  });
  await eventually('the refusal', () => second.state().error.includes('another agent of this name'));
  t.regex(second.state().error, /instance i-n1.*Give each node a name of its own/);
  t.is(first.state().state, 'connected');
  await first.stop();
  await eventually('the second', () => second.state().state === 'connected');
  t.is(controller.sessions.count, 1);
});

test('in plain text an instance id takes no session away from an agent that answers', async (t) => {
  const controller = await withNode(t);
  const first = agentFor(t, [controller.address]);
  await eventually('the first', () => first.state().state === 'connected');
  const thief = agentFor(t, [controller.address]);
  await eventually('the refusal', () => thief.state().error.includes('another agent of this name'));
  t.is(first.state().state, 'connected');
});

test('a session that does not answer any more gives way to the same instance, as after a break', async (t) => {
  const controller = await withNode(t);
  const client = new SessionServiceClient(controller.address, ...channel(controller.address, undefined));
  t.teardown(() => client.close());
  const silent = client.connect();
  silent.on('data', () => undefined).on('error', () => undefined);
  silent.write({ message: { $case: 'hello', value: { node: 'n1', instance: 'i-n1', version: '1' } } });
  await eventually('the silent one', () => controller.sessions.has('n1'));
  const again = agentFor(t, [controller.address]);
  await eventually('the same again', () => again.state().state === 'connected');
  await eventually('its report', () => controller.registry.get('n1').state !== undefined);
  silent.cancel();
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.is(again.state().state, 'connected');
  t.is(controller.sessions.count, 1);
});

test('what is too large to be kept ends the session, and a node without a record leaves nothing behind', async (t) => {
  const controller = await withNode(t);
  const large = Status.fromPartial({ problems: [{ what: 'x'.repeat(300_000), why: '', fix: '' }] });
  const client = new SessionServiceClient(controller.address, ...channel(controller.address, undefined));
  const stream = client.connect();
  let refusal = '';
  stream.on('error', ({ message }) => (refusal = message));
  stream.on('data', () => undefined);
  stream.write({ message: { $case: 'hello', value: { node: 'n1', instance: 'i-n1', version: '' } } });
  stream.write({ message: { $case: 'report', value: { sequence: 1, status: large } } });
  await eventually('the refusal', () => refusal.includes('a report of 300'));
  client.close();
  t.is(controller.sessions.reportOf('n1'), undefined);
  // An agent cuts its own.
  const agent = agentFor(t, [controller.address], { status: () => large });
  await eventually('what is left', () => controller.sessions.reportOf('n1') !== undefined);
  t.is(agent.state().state, 'connected');
  const ghost = agentFor(t, [controller.address], {
    hello: { node: 'ghost', instance: 'i', version: '1' },
  });
  await eventually('its report', () => controller.sessions.reportOf('ghost') !== undefined);
  await ghost.stop();
  await eventually('nothing', () => controller.sessions.reportOf('ghost') === undefined);
});

test('a session without a valid Hello is refused', async (t) => {
  const controller = await controllerFor(t);
  const client = new SessionServiceClient(controller.address, ...channel(controller.address, undefined));
  const answerTo = (message: AgentMessage['message']): Promise<string> =>
    new Promise((resolve) => {
      const stream = client.connect();
      stream.on('data', () => undefined);
      stream.on('error', (error) => resolve(error.message));
      stream.write({ message });
    });
  t.regex(
    await answerTo({ $case: 'report', value: { sequence: 1, status: undefined } }),
    /INVALID_ARGUMENT.*the first message was not Hello/,
  );
  t.regex(
    await answerTo({ $case: 'hello', value: { node: 'a b', instance: 'i', version: '' } }),
    /INVALID_ARGUMENT: hello.node: "a b"/,
  );
  t.regex(
    await answerTo({ $case: 'hello', value: { node: 'a', instance: '', version: '' } }),
    /INVALID_ARGUMENT: hello.instance/,
  );
  t.is(controller.sessions.count, 0);
  client.close();
});

test('the agent uses the first controller that answers, and the next when it ends; each state is logged once', async (t) => {
  const closed = `127.0.0.1:${await freePort()}`;
  const first = await controllerFor(t);
  const second = await controllerFor(t);
  const lines: string[] = [];
  const note = (level: string) => (message: string, fields?: Fields) =>
    lines.push(`${level} ${message} ${String(fields?.['controller'])}`);
  const log: Logger = { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') };
  const states: string[] = [];
  const session = agentFor(t, [closed, first.address, second.address], {
    log,
    onState: ({ state }) => states.push(state),
  });
  await eventually(
    'the first',
    () => session.state().address === first.address && session.state().state === 'connected',
  );
  await first.stop();
  await eventually(
    'the second',
    () => session.state().address === second.address && session.state().state === 'connected',
  );
  t.deepEqual(lines, [
    `warn no connection to the controller; the node works on without it ${closed}`,
    `info connected to the controller ${first.address}`,
    `warn no connection to the controller; the node works on without it ${first.address}`,
    `info connected to the controller ${second.address}`,
  ]);
  t.is(states.at(-1), 'connected');
});

test('a controller that accepts but stays silent is skipped', async (t) => {
  const accepted = new Set<Socket>();
  const mute = createServer((socket) => accepted.add(socket));
  const address = await listen(mute);
  t.teardown(async () => {
    for (const socket of accepted) socket.destroy();
    mute.close();
  });
  const controller = await controllerFor(t);
  const session = agentFor(t, [address, controller.address]);
  await eventually('the one that speaks', () => session.state().state === 'connected');
  t.is(session.state().address, controller.address);
});

test('without controllers no session starts, and a failing status does no harm', async (t) => {
  const none = agentFor(t, []);
  none.changed();
  t.deepEqual(none.state(), { state: 'none', address: '', error: '' });
  const controller = await controllerFor(t);
  const session = agentFor(t, [controller.address], {
    status: () => {
      throw new Error('not ready');
    },
  });
  await eventually('the session', () => session.state().state === 'connected');
  session.changed();
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.is(session.state().state, 'connected');
});

test('a restarted controller knows its nodes again', async (t) => {
  const store = new FakeStore();
  store.putNode(node('n1', '192.0.2.1'));
  const first = await controllerFor(t, { store, listen: `127.0.0.1:${await freePort()}` });
  const session = agentFor(t, [first.address], {
    status: () => Status.fromPartial({ problems: [{ what: 'a', why: 'b', fix: 'c' }] }),
  });
  await eventually('the first', () => first.registry.get('n1').problems.length === 1);
  await first.stop();
  await eventually('the loss', () => session.state().state === 'disconnected');
  t.regex(session.state().error, /nothing listens there|ending|given up/);
  const second = await controllerFor(t, { store, listen: first.address });
  t.is(second.registry.get('n1').state, 'up');
  await eventually('the report', () => second.registry.get('n1').problems.length === 1);
  t.pass();
});

// Serial, and so before the others: it keeps the process busy for seconds, in which their sessions would be taken for dead.
test.serial('a thousand sessions are cheap', async (t) => {
  const controller = await controllerFor(t);
  const client = new SessionServiceClient(controller.address, ...channel(controller.address, undefined));
  const status = Status.fromPartial({ networks: [{ name: 'blue', mtu: 1450 }] });
  const before = process.memoryUsage().rss;
  const begun = Date.now();
  const streams = Array.from({ length: 1000 }, (_, i) => {
    const stream = client.connect();
    stream.on('data', () => undefined).on('error', () => undefined);
    stream.write({ message: { $case: 'hello', value: { node: `n${i}`, instance: `i${i}`, version: '1' } } });
    stream.write({ message: { $case: 'report', value: { sequence: 1, status } } });
    return stream;
  });
  await eventually('all reports', () =>
    streams.every((_, i) => controller.sessions.reportOf(`n${i}`) !== undefined),
  );
  const grown = (process.memoryUsage().rss - before) / 2 ** 20;
  t.log(`${Date.now() - begun} ms, ${grown.toFixed(0)} MiB for both sides`);
  // Both sides run in this process.
  t.true(grown < 250, `${grown} MiB`);
  for (const stream of streams) stream.cancel();
  await eventually('all ends', () => controller.sessions.count === 0);
  client.close();
});

function listen(server: Server): Promise<string> {
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      resolve(typeof address === 'object' && address !== null ? `127.0.0.1:${address.port}` : '');
    });
  });
}

test('how a session ended: the agent was stopped, its connection broke, or nothing came any more', async (t) => {
  const controller = await withNode(t);
  const { sessions, store } = controller;
  const session = agentFor(t, [controller.address]);
  await eventually('the session', () => sessions.has('n1'));
  t.is(sessions.endingOf('n1'), undefined);
  await session.stop();
  await eventually('the end', () => !sessions.has('n1'));
  t.is(sessions.endingOf('n1'), 'stopped');
  for (const [alive, ending] of [
    ['i-n1', 'closed'],
    [undefined, 'silent'],
  ] as const) {
    const client = new SessionServiceClient(controller.address, ...channel(controller.address, undefined));
    const stream = client.connect();
    stream.on('error', () => undefined);
    const hello = { node: 'n1', instance: 'i-n1', version: '1' };
    stream.write({ message: { $case: 'hello', value: hello } });
    await eventually('the next session', () => sessions.has('n1'));
    t.is(sessions.endingOf('n1'), undefined);
    store.setAlive('n1', alive);
    stream.cancel();
    await eventually('its end', () => !sessions.has('n1'));
    t.is(sessions.endingOf('n1'), ending);
    client.close();
  }
});
