// The agent's HTTP socket: for its owner alone, with routes, errors that say what to do, and callers that go away.
import { existsSync, statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';

import test from 'ava';

import { HttpRoutes } from '../../../agent/api/http-socket.js';
import { notFound, type WeftError } from '../../../core/errors.js';
import { silentLogger } from '../../../daemon/log.js';
import { temporaryFolder } from '../../lab/temporary-folder.js';

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
