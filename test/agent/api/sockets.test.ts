// The agent’s sockets.
import { once } from 'node:events';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';

import test from 'ava';

import { HttpRoutes } from '../../../agent/api/http-socket.js';
import { type AgentApi, openSocket } from '../../../agent/api/server.js';
import { callByHttp } from '../../../cli/http-call.js';
import { notFound, type WeftError } from '../../../core/errors.js';
import { AuditLog } from '../../../daemon/audit.js';
import { call, channel } from '../../../daemon/grpc.js';
import { silentLogger } from '../../../daemon/log.js';
import { AgentServiceClient } from '../../../proto/gen/weft/v1/agent.js';
import { Endpoint, Status } from '../../../proto/gen/weft/v1/types.js';
import { failureOf } from '../../controller/harness.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

// The agent's socket: for its owner alone, and every change by it is in the audit log with the user who asked.

test('changes are written down with the user who asked, reading is not', async (t) => {
  const folder = temporaryFolder(t, 'weft-api-');
  const log = join(folder, 'audit/agent.log');
  const audit = new AuditLog(log, silentLogger);
  const api = {
    names: {},
    listPorts: () => Promise.resolve({ ports: [] }),
    detach: ({ target }: { target: string }) =>
      target === 'gone'
        ? Promise.reject(notFound('gone'))
        : Promise.resolve(Endpoint.fromPartial({ id: 'aa' })),
  } as unknown as AgentApi;
  const answers = { status: () => Status.create(), waiting: () => undefined };
  const served = await openSocket(join(folder, 'run'), answers, audit);
  t.is(await callByHttp(served.path, 'detach', {}, 5000), undefined, 'it cannot do its work yet');
  served.serve(api, [], new HttpRoutes(silentLogger, audit));
  t.is(statSync(served.path).mode & 0o777, 0o600);
  const client = new AgentServiceClient(`unix:${served.path}`, ...channel('', undefined));
  const within = { peer: 'the agent', deadlineMs: 5000 };
  const detach = (target: string) => call(client.detach.bind(client), { network: 'blue', target }, within);
  await call(client.listPorts.bind(client), { endpoint: '' }, within);
  t.is((await detach('netns:/run/netns/c1')).endpoint?.id, 'aa');
  t.regex(await failureOf(detach('gone')), /^NOT_FOUND/);
  client.close();
  const byHttp = (target: string) => callByHttp(served.path, 'detach', { network: 'blue', target }, 5000);
  t.like(await byHttp('netns:/run/netns/c1'), { endpoint: { id: 'aa' } });
  t.regex(await failureOf(byHttp('gone')), /^NOT_FOUND/);
  t.is(await callByHttp(served.path, 'listPorts', {}, 5000), undefined, 'by gRPC alone');
  t.regex(await failureOf(callByHttp(served.path, 'attach', [], 5000)), /^INVALID_ARGUMENT .*JSON/);
  const silent = connect(served.path);
  await once(silent, 'connect');
  const ended = once(silent, 'close');
  await served.stop();
  await ended;
  t.is(await callByHttp(served.path, 'detach', {}, 5000), undefined, 'nobody is there any more');
  audit.close();
  t.false(existsSync(served.path));

  const entries = readFileSync(log, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as object);
  const common = { actor: { uid: process.getuid?.() }, method: 'AgentService/Detach' };
  t.is(entries.length, 4);
  t.like(entries[0], { ...common, object: { network: 'blue', target: 'netns:/run/netns/c1' }, code: 'OK' });
  t.like(entries[1], { ...common, object: { network: 'blue', target: 'gone' }, code: 'NOT_FOUND' });
  t.like(entries[2], { ...common, object: { network: 'blue', target: 'netns:/run/netns/c1' }, code: 'OK' });
  t.like(entries[3], { ...common, object: { network: 'blue', target: 'gone' }, code: 'NOT_FOUND' });
});

// The agent's HTTP socket: for its owner alone, with routes, errors that say what to do, and callers that go away.

interface Answer {
  status: number;
  text: string;
}

function ask(socketPath: string, path: string, body = '', method = 'POST'): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const call = request({ socketPath, path, method }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    call.on('error', reject);
    call.end(body);
  });
}

test('routes answer by themselves, and errors have code, cause and next step', async (t) => {
  const path = join(temporaryFolder(t, 'weft-http-'), 'run/cni.sock');
  const written: Readonly<Record<string, unknown>>[] = [];
  const routes = new HttpRoutes(silentLogger, { write: (entry) => written.push(entry) });
  const change = { method: 'cni ADD', object: { network: 'blue' } };
  routes.add('change', ({ body: why }) =>
    Promise.resolve({ status: 200, change: { ...change, ...(why !== '' && { why }) } }),
  );
  routes.add('echo', ({ body }) => Promise.resolve({ status: 200, body: { body } }));
  routes.add('empty', () => Promise.resolve({ status: 200 }));
  routes.add('wrong', () => Promise.reject(notFound('there is no blue', 'Create it.')));
  routes.add('broken', () => Promise.reject(new Error('oops')));
  const served = await routes.open(path);
  t.is(statSync(path).mode & 0o777, 0o600);
  t.deepEqual(await ask(path, '/echo?x=1', 'ä=1'), { status: 200, text: '{"body":"ä=1"}' });
  t.deepEqual(await ask(path, '/empty'), { status: 200, text: '' });
  t.deepEqual(await ask(path, '/wrong'), {
    status: 400,
    text: '{"error":{"code":"NOT_FOUND","message":"there is no blue","next":"Create it."}}',
  });
  t.like(await ask(path, '/broken'), { status: 500 });
  for (const [where, method] of [
    ['/nowhere', 'POST'],
    ['/echo', 'GET'],
  ] as const) {
    const { status, text } = await ask(path, where, '', method);
    t.is(status, 404);
    t.regex(text, /POST to \/change, \/echo, \/empty, \/wrong, \/broken/);
  }
  t.regex((await ask(path, '/echo', 'x'.repeat(5 << 20))).text, /too long/);
  t.deepEqual(written, [], 'nothing was to be changed');
  await ask(path, '/change');
  await ask(path, '/change', 'no address is free');
  const actor = { uid: process.getuid?.() };
  t.like(written[0], { actor, ...change, code: 'OK' });
  t.like(written[1], { actor, ...change, code: 'FAILED', why: 'no address is free' });
  const second = await t.throwsAsync<WeftError>(new HttpRoutes(silentLogger).open(path));
  t.regex(second?.message ?? '', /another program serves/);
  t.regex(second?.next ?? '', /--cni-socket/);
  await served.stop();
  t.false(existsSync(path));
  const tooLong = join(temporaryFolder(t, 'weft-http-'), 'x'.repeat(100));
  await t.throwsAsync(new HttpRoutes(silentLogger).open(tooLong), { message: /too long/ });
});

test('a handler learns that its caller has gone away', async (t) => {
  const path = join(temporaryFolder(t, 'weft-http-'), 'cni.sock');
  const routes = new HttpRoutes(silentLogger);
  let begun = (): void => undefined;
  const asked = new Promise<void>((resolve) => (begun = resolve));
  let gone = (_why: unknown): void => undefined;
  const left = new Promise<unknown>((resolve) => (gone = resolve));
  routes.add('wait', async ({ signal }) => {
    begun();
    await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
    gone(signal.reason);
    return { status: 200 };
  });
  const served = await routes.open(path);
  const call = request({ socketPath: path, path: '/wait', method: 'POST' });
  call.on('error', () => undefined);
  call.end('x');
  await asked;
  call.destroy();
  t.regex(String(await left), /gone away/);
  await served.stop();
});
