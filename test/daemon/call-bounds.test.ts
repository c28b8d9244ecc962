// What one caller may have open at once, and how long its message may take.
import { readFileSync } from 'node:fs';
import { connect as connectHttp2, type ClientHttp2Session, type ClientHttp2Stream } from 'node:http2';
import { connect as connectTls } from 'node:tls';

import { Server, status } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';

import { boundsInterceptor, type Bounds } from '../../daemon/call-bounds.js';
import { frontOf, stopGrpc, unary } from '../../daemon/grpc.js';
import { hostPort } from '../../daemon/kinds.js';
import { StatusServiceService } from '../../proto/gen/weft/v1/agent.js';
import { Status } from '../../proto/gen/weft/v1/types.js';
import { until } from '../lab/wait.js';
import { TestCa } from './certificates.js';

const WIDE: Bounds = { calls: 100, strangers: 100, arriving: 100, allArriving: 100, arrivesMs: 60_000 };

/** A server whose only method answers when `answer` is called. */
async function serve(t: ExecutionContext, bounds: Partial<Bounds>) {
  const ca = new TestCa();
  t.teardown(() => ca.remove());
  const waiting: (() => void)[] = [];
  const server = new Server({
    interceptors: [boundsInterceptor((peer) => front.isPlain(peer), { ...WIDE, ...bounds })],
  });
  server.addService(StatusServiceService, {
    getStatus: unary(async () => {
      await new Promise<void>((resolve) => waiting.push(resolve));
      return Status.fromPartial({ health: 'ok' });
    }),
  });
  const own = ca.issue('server');
  const read = ({ cert, key }: typeof own) => ({
    ca: readFileSync(ca.ca),
    cert: readFileSync(cert),
    key: readFileSync(key),
  });
  const front = frontOf(server, { tls: read(own), requireCertificate: false, plain: true });
  t.teardown(() => stopGrpc(server, 100));
  const address = await front.listen(hostPort({ listen: true }).parse('127.0.0.1:0', 'test'));
  const port = Number(address.split(':')[1]);
  const known: Record<string, ReturnType<typeof read>> = {};
  const dial = (who: 'plain' | 'stranger' | 'h1' | 'h2'): ClientHttp2Session => {
    const { ca: trusted, cert, key } = (known[who] ??= read(ca.issue(who)));
    const shown = who === 'stranger' ? {} : { cert, key };
    const session =
      who === 'plain'
        ? connectHttp2(`http://127.0.0.1:${port}`)
        : connectHttp2(`http://127.0.0.1:${port}`, {
            createConnection: () =>
              connectTls({ host: '127.0.0.1', port, ca: trusted, ...shown, ALPNProtocols: ['h2'] }),
          });
    t.teardown(() => session.destroy());
    return session;
  };
  const answer = (): void => waiting.splice(0).forEach((resolve) => resolve());
  return { dial, answer, waiting };
}

interface Call {
  stream: ClientHttp2Stream;
  /** Its status; undefined while it runs. */
  code: () => number | undefined;
}

/** @param whole whether its message ends */
function call(session: ClientHttp2Session, whole: boolean): Call {
  const stream = session.request({
    ':method': 'POST',
    ':path': '/weft.v1.StatusService/GetStatus',
    'content-type': 'application/grpc',
    te: 'trailers',
  });
  let code: number | undefined;
  const take = (headers: Record<string, unknown>): void => {
    if (headers['grpc-status'] !== undefined) code = Number(headers['grpc-status']);
  };
  stream
    .on('response', take)
    .on('trailers', take)
    .on('error', () => undefined);
  stream.resume();
  if (whole) stream.end(Buffer.alloc(5));
  // A message of 100 bytes, of which 3 come.
  else stream.write(Buffer.from([0, 0, 0, 0, 100, 1, 2, 3]));
  return { stream, code: () => code };
}

const EXHAUSTED = status.RESOURCE_EXHAUSTED as number;

test('calls of one caller are counted while they run, whatever connections they come by', async (t) => {
  const { dial, answer, waiting } = await serve(t, { calls: 2, strangers: 1 });
  const [one, again, other, stranger, plain] = [
    dial('h1'),
    dial('h1'),
    dial('h2'),
    dial('stranger'),
    dial('plain'),
  ];
  const first = [call(one, true), call(again, true)];
  await until('they run', () => waiting.length === 2);
  const refused = call(again, true);
  await until('the refusal', () => refused.code() === EXHAUSTED);
  // Others are not affected; on loopback plain text is everybody's.
  const running = [call(other, true), call(stranger, true), ...[1, 2, 3].map(() => call(plain, true))];
  await until('they run, too', () => waiting.length === 7);
  const second = call(stranger, true);
  await until('its refusal', () => second.code() === EXHAUSTED);
  answer();
  for (const { code } of [...first, ...running]) await until('the answers', () => code() === status.OK);
  const later = call(one, true);
  await until('a place again', () => waiting.length === 1);
  t.is(later.code(), undefined);
  later.stream.close();
});

test('messages that do not come take few places, and not for long', async (t) => {
  // Long enough for a slow machine to make three calls before the first is cut.
  const arrivesMs = 2500;
  const { dial, answer, waiting } = await serve(t, { arriving: 2, allArriving: 3, arrivesMs });
  const [one, other] = [dial('h1'), dial('h2')];
  const slow = [call(one, false), call(one, false), call(one, true)];
  await until('the refusal', () => slow[2]?.code() === EXHAUSTED);
  const more = [call(other, false), call(other, true)];
  await until('that of all', () => more[1]?.code() === EXHAUSTED);
  for (const { code } of [...slow.slice(0, 2), ...more.slice(0, 1)])
    await until('they are cut', () => code() === status.DEADLINE_EXCEEDED);
  const later = call(one, true);
  await until('a place again', () => waiting.length === 1);
  // An answer may take longer than its question.
  await new Promise((resolve) => setTimeout(resolve, arrivesMs + 100));
  answer();
  await until('the answer', () => later.code() !== undefined);
  t.is(later.code(), status.OK);
});
