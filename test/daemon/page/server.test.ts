// The page's server against a controller that is scripted: who gets what, and the live stream.
import { request } from 'node:http';

import { Server, type ServerWritableStream } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';

import { notFound } from '../../../core/errors.js';
import { listenGrpc, stopGrpc, unary } from '../../../daemon/grpc.js';
import { hostPort } from '../../../daemon/kinds.js';
import { PageServer, Source } from '../../../daemon/page/index.js';
import type { Update } from '../../../daemon/page/update.js';
import { StatusServiceService } from '../../../proto/gen/weft/v1/agent.js';
import { EventType, NodeServiceService, type NodeEvent } from '../../../proto/gen/weft/v1/controller.js';
import { TraceServiceService } from '../../../proto/gen/weft/v1/trace.js';
import { Node, Status } from '../../../proto/gen/weft/v1/types.js';

const listen = hostPort({ listen: true }).parse('127.0.0.1:0', 'test');
const { PUT, DELETE, SYNCED } = EventType;
const nodeEvent = (type: EventType, name?: string): NodeEvent => ({
  type,
  node: name === undefined ? undefined : Node.fromPartial({ name, state: 'up' }),
});

/** A controller with nodes alone: of its other services it says that there are none. */
async function serve(
  t: ExecutionContext,
): Promise<{ page: PageServer; watches: ServerWritableStream<unknown, NodeEvent>[] }> {
  const controller = new Server();
  const watches: ServerWritableStream<unknown, NodeEvent>[] = [];
  controller.addService(StatusServiceService, {
    getStatus: unary(() =>
      Status.fromPartial({ health: 'degraded', problems: [{ what: 'node <img onerror>' }] }),
    ),
  });
  controller.addService(NodeServiceService, {
    listNodes: unary(() => ({ nodes: [] })),
    getNode: unary(() => Node.fromPartial({})),
    deleteNode: unary(() => ({ note: undefined })),
    watchNodes: (call: ServerWritableStream<unknown, NodeEvent>) => {
      watches.push(call);
      for (const event of [nodeEvent(PUT, 'h1'), nodeEvent(PUT, 'h2'), nodeEvent(SYNCED)]) call.write(event);
    },
  });
  controller.addService(TraceServiceService, {
    trace: unary(({ from }) => {
      throw notFound(`${from}: there is no such thing`, 'See weft endpoint ls.');
    }),
  });
  const address = await listenGrpc(controller, listen, undefined);
  const source = new Source(() => ({ address, tls: undefined }));
  const page = await PageServer.start({ listen, source, flag: '--listen' });
  t.teardown(async () => {
    await page.stop();
    await stopGrpc(controller, 10);
  });
  return { page, watches };
}

/** As a browser does that has opened the link. */
async function open(page: PageServer): Promise<{ origin: string; cookie: string }> {
  const { url } = page;
  const response = await fetch(url, { redirect: 'manual' });
  const cookie = response.headers.get('set-cookie')?.split(';')[0] ?? '';
  return { origin: new URL(url).origin, cookie };
}

async function* updatesOf(response: Response): AsyncGenerator<Update> {
  let text = '';
  for await (const part of (response.body ?? new ReadableStream<Uint8Array>()).pipeThrough(
    new TextDecoderStream(),
  )) {
    text += part;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const event = text.slice(0, end);
      text = text.slice(end + 2);
      if (event.startsWith('data: ')) yield JSON.parse(event.slice('data: '.length)) as Update;
    }
  }
}

async function next(
  updates: AsyncGenerator<Update>,
  wanted: (update: Update) => boolean,
): Promise<Update | undefined> {
  for (;;) {
    const { value, done } = await updates.next();
    if (done === true) return undefined;
    if (wanted(value)) return value;
  }
}

test('the link counts once; without its cookie there is nothing', async (t) => {
  const { page } = await serve(t);
  const { url } = page;
  const first = await fetch(url, { redirect: 'manual' });
  t.is(first.status, 303);
  t.is(first.headers.get('location'), '/');
  t.is((await fetch(url, { redirect: 'manual' })).status, 403);
  for (const path of ['/', '/page.js', '/api/live'])
    t.is((await fetch(new URL(path, url))).status, 403, path);
  t.regex(first.headers.get('content-security-policy') ?? '', /^default-src 'none'; script-src 'self';/);
});

test('a name that is not the page’s is refused, with the cookie, too', async (t) => {
  const { page } = await serve(t);
  const { origin, cookie } = await open(page);
  const status = await new Promise<number | undefined>((resolve, reject) => {
    const headers = { host: 'evil.example', cookie };
    request(`${origin}/api/live`, { headers }, (response) => {
      response.destroy();
      resolve(response.statusCode);
    })
      .once('error', reject)
      .end();
  });
  t.is(status, 403);
});

test('the live stream has all objects, and then changes', async (t) => {
  const { page, watches } = await serve(t);
  const { origin, cookie } = await open(page);
  const gone = new AbortController();
  t.teardown(() => gone.abort());
  const response = await fetch(`${origin}/api/live`, { headers: { cookie }, signal: gone.signal });
  const seen: Update[] = [];
  const updates = updatesOf(response);
  await next(updates, (update) => {
    seen.push(update);
    return update.kind === 'synced' && update.of === 'node';
  });
  const names = seen.flatMap((it) => (it.kind === 'node' ? it.put.map(({ name }) => name) : []));
  t.deepEqual(names, ['h1', 'h2']);
  // Of several words about one object, the last one counts.
  for (const event of [nodeEvent(DELETE, 'h1'), nodeEvent(PUT, 'h2'), nodeEvent(DELETE, 'h2')])
    watches[0]?.write(event);
  // A slow machine reads them in more than one update.
  const left = new Set(names);
  await next(updates, (update) => {
    if (update.kind !== 'node') return false;
    for (const { name } of update.put) left.add(name);
    for (const name of update.gone) left.delete(name);
    t.true(update.put.every(({ name }) => !update.gone.includes(name)));
    return left.size === 0;
  });
  t.is(left.size, 0);
});

test('what the controller does not serve is lost, and the rest goes on', async (t) => {
  const { page } = await serve(t);
  const { origin, cookie } = await open(page);
  const gone = new AbortController();
  t.teardown(() => gone.abort());
  const updates = updatesOf(await fetch(`${origin}/api/live`, { headers: { cookie }, signal: gone.signal }));
  const lost = await next(updates, (update) => update.kind === 'lost' && update.of === 'endpoint');
  t.like(lost, { failure: { code: 'UNIMPLEMENTED' } });
});

test('a question is answered with the controller’s error and its next step', async (t) => {
  const { page } = await serve(t);
  const { origin, cookie } = await open(page);
  const ask = async (path: string, body: string, headers: Record<string, string> = { origin }) => {
    const response = await fetch(`${origin}${path}`, {
      method: 'POST',
      body,
      headers: { cookie, ...headers },
    });
    return [response.status, await response.text()] as const;
  };
  const [status, text] = await ask('/api/trace', '{"from":"a","to":"b"}');
  t.is(status, 404);
  t.deepEqual(JSON.parse(text), {
    error: { code: 'NOT_FOUND', message: 'a: there is no such thing', next: 'See weft endpoint ls.' },
  });
  t.is((await ask('/api/trace', '{"from":7}'))[0], 400);
  t.is((await ask('/api/trace', 'x'))[0], 400);
  t.is((await ask('/api/nothing', '{}'))[0], 400);
  t.is((await ask('/api/trace', '{}', {}))[0], 403);
  t.is((await ask('/api/trace', '{}', { origin: 'http://evil.example' }))[0], 403);
});
