// Errors, calls and certificates across a real gRPC connection.
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';

import { Metadata, Server, status, type ServiceError } from '@grpc/grpc-js';
import test, { type ExecutionContext } from 'ava';

import {
  failedPrecondition,
  invalidArgument,
  messageOf,
  parseErrorCode,
  WeftError,
} from '../../core/errors.js';
import {
  call,
  channel,
  codeOf,
  fromServiceError,
  listenGrpc,
  stopGrpc,
  toServiceError,
  unary,
  type CallContext,
} from '../../daemon/grpc.js';
import { hostPort } from '../../daemon/kinds.js';
import { readEtcdTls, readTls, type Tls } from '../../daemon/tls.js';
import { AgentServiceClient, AgentServiceService, DetachResponse } from '../../proto/gen/weft/v1/agent.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import { TestCa } from './certificates.js';
import { until } from '../lab/wait.js';

const anyPort = hostPort({ listen: true }).parse('127.0.0.1:0', 'test');

async function serve(
  detach: (context: CallContext) => Promise<DetachResponse>,
  tls?: Tls,
): Promise<{ address: string; stop: () => Promise<void> }> {
  const server = new Server();
  server.addService(AgentServiceService, {
    attach: unary((): Endpoint => {
      throw new TypeError('x is not a function');
    }),
    detach: unary((_request, context) => detach(context)),
  });
  const address = await listenGrpc(server, anyPort, tls);
  return { address, stop: () => stopGrpc(server, 100) };
}

async function ask(
  address: string,
  options: { tls?: Tls | undefined; deadlineMs?: number; signal?: AbortSignal } = {},
) {
  const { tls, deadlineMs = 3000, signal } = options;
  const client = new AgentServiceClient(address, ...channel(address, tls));
  try {
    return await call(
      client.detach.bind(client),
      { network: 'blue', target: 'c1' },
      {
        peer: 'the agent',
        deadlineMs,
        at: { address, tls },
        ...(signal === undefined ? {} : { signal }),
      },
    );
  } finally {
    client.close();
  }
}

async function failureOf(promise: Promise<unknown>): Promise<WeftError> {
  const error: unknown = await promise.then(
    () => new Error('nothing was refused'),
    (reason: unknown) => reason,
  );
  if (error instanceof WeftError) return error;
  throw new Error(`no WeftError: ${messageOf(error)}`);
}

test('an error arrives as it was thrown: code, message and next step, in any script', async (t) => {
  const thrown = failedPrecondition('Netz „blau“: 100 % belegt\nganz', 'Nächstes: räumen → fertig.');
  const server = await serve(() => Promise.reject(thrown));
  const error = await failureOf(ask(server.address));
  t.deepEqual([error.code, error.message, error.next], ['FAILED_PRECONDITION', thrown.message, thrown.next]);
  await server.stop();
});

test('a very long error still arrives', async (t) => {
  const server = await serve(() => Promise.reject(invalidArgument('ä'.repeat(10_000), 'ü'.repeat(10_000))));
  const error = await failureOf(ask(server.address));
  t.is(error.code, 'INVALID_ARGUMENT');
  t.true(error.message.startsWith('äää'));
  await server.stop();
});

test('a fault is INTERNAL, with its message but without its stack', (t) => {
  const { code, details, metadata } = toServiceError(new TypeError('x is not a function'));
  t.is(code, status.INTERNAL);
  t.is(details, 'a fault in weft: x is not a function');
  t.false(JSON.stringify(metadata.toJSON()).includes('grpc.test'));
  t.is(toServiceError('text').details, 'a fault in weft: text');
});

test('a network failure becomes a readable error', async (t) => {
  const server = await serve(() => Promise.resolve(DetachResponse.create({})));
  const { address } = server;
  await server.stop();
  const unreachable = await failureOf(ask(address));
  t.deepEqual(
    [unreachable.code, unreachable.message],
    ['UNAVAILABLE', 'the agent does not answer: nothing listens there'],
  );
  t.truthy(unreachable.next);
  const noSocket = await failureOf(ask('unix:/nowhere/agent.sock'));
  t.deepEqual(
    [noSocket.code, noSocket.message],
    ['UNAVAILABLE', 'the agent does not answer: there is no such socket'],
  );
});

test('a deadline and a signal end a call, and the handler is notified', async (t) => {
  const heard: boolean[] = [];
  let begun = 0;
  const server = await serve(
    ({ signal }) =>
      new Promise((resolve) => {
        begun++;
        signal.addEventListener('abort', () => {
          heard.push(true);
          resolve(DetachResponse.create({}));
        });
      }),
  );
  // Its connection is set up first, which may be slow on a busy machine.
  t.is((await failureOf(ask(server.address, { deadlineMs: 1500 }))).code, 'DEADLINE_EXCEEDED');
  const giveUp = new AbortController();
  const second = failureOf(ask(server.address, { signal: giveUp.signal, deadlineMs: 15_000 }));
  await until('the handler runs', () => begun === 2);
  giveUp.abort();
  t.is((await second).code, 'ABORTED');
  await until('both are notified', () => heard.length === 2);
  t.is((await failureOf(ask(server.address, { signal: AbortSignal.abort() }))).code, 'ABORTED');
  await new Promise((resolve) => setTimeout(resolve, 200));
  t.deepEqual([begun, heard.length], [2, 2], 'and of no third');
  await server.stop();
});

const plainError = (code: status): ServiceError =>
  Object.assign(new Error('x'), { code, details: 'reason', metadata: new Metadata() });

test('codes without a counterpart', (t) => {
  const codes = [status.UNIMPLEMENTED, status.UNKNOWN, status.CANCELLED, status.PERMISSION_DENIED].map(
    (code) => fromServiceError(plainError(code), { peer: 'the controller' }).code,
  );
  t.deepEqual(codes, ['UNIMPLEMENTED', 'INTERNAL', 'ABORTED', 'PERMISSION_DENIED']);
  t.is(fromServiceError(new Error('odd'), { peer: 'the controller' }).message, 'the controller: odd');
  t.is(codeOf(status.OUT_OF_RANGE), 'INVALID_ARGUMENT');
  t.is(parseErrorCode('toString'), 'INTERNAL');
});

function read(authority: TestCa, name: string): Tls | undefined {
  const { cert, key } = authority.issue(name);
  return readTls({ tlsCa: authority.ca, tlsCert: cert, tlsKey: key });
}

test('with TLS only clients with a certificate of the CA are served', async (t) => {
  const ca = new TestCa();
  const other = new TestCa();
  t.teardown(() => {
    ca.remove();
    other.remove();
  });
  const server = await serve(() => Promise.resolve(DetachResponse.create({})), read(ca, 'server'));
  t.deepEqual(await ask(server.address, { tls: read(ca, 'client') }), DetachResponse.create({}));

  const stranger = read(other, 'stranger');
  if (stranger === undefined) throw new Error('not what was expected');
  // Trusts the server, but its own certificate is from another CA.
  const wrong = await failureOf(ask(server.address, { tls: { ...stranger, ca: readFileSync(ca.ca) } }));
  t.is(wrong.code, 'UNAVAILABLE');
  const distrusting = await failureOf(ask(server.address, { tls: stranger }));
  t.is(distrusting.code, 'UNAVAILABLE');
  t.regex(distrusting.next ?? '', /--tls-ca, --tls-cert and --tls-key/);
  const plain = await failureOf(ask(server.address));
  t.is(plain.code, 'UNAVAILABLE');
  t.regex(plain.next ?? '', /--tls-ca, --tls-cert and --tls-key/);
  await server.stop();
});

/** A server that accepts TCP connections only. */
async function tcp(t: ExecutionContext, serve: (socket: Socket) => void): Promise<string> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    // A client that gives up is no error here.
    socket.on('error', () => undefined);
    serve(socket);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  t.teardown(() => {
    server.close();
    for (const socket of open) socket.destroy();
  });
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('it has no port');
  return `127.0.0.1:${address.port}`;
}

const CHECK_TLS = /^Either both sides need --tls-ca, --tls-cert and --tls-key .* or neither\.$/;
const CHECK_THE_WAY = 'See whether it still runs, what its log says, and whether the network to it is up.';

test('TLS on one side only, or without trust, is reported as such', async (t) => {
  const [ca, other] = [new TestCa(), new TestCa()];
  t.teardown(() => {
    ca.remove();
    other.remove();
  });
  const [tls, stranger] = [read(ca, 'client'), read(other, 'stranger')];
  if (tls === undefined || stranger === undefined) throw new Error('not what was expected');
  const answer = (): Promise<DetachResponse> => Promise.resolve(DetachResponse.create({}));
  const [secure, plain] = [await serve(answer, read(ca, 'server')), await serve(answer)];
  t.teardown(() => Promise.all([secure.stop(), plain.stop()]));
  const http = await tcp(
    t,
    (socket) => void socket.once('data', () => socket.end('HTTP/1.1 400 No\r\n\r\n')),
  );
  for (const [what, address, shown, why] of [
    ['TLS server, plain client', secure.address, undefined, 'uses TLS, and this side does not'],
    ['plain server, TLS client', plain.address, tls, 'answers without TLS, and this side uses it'],
    ['another protocol, TLS client', http, tls, 'answers without TLS, and this side uses it'],
    [
      'a certificate that the server does not trust',
      secure.address,
      { ...stranger, ca: tls.ca },
      'ended the connection right after the TLS handshake, as where this side’s certificate is not trusted',
    ],
    [
      'a certificate that the client does not trust',
      secure.address,
      stranger,
      'could not be trusted: self-signed certificate in certificate chain',
    ],
  ] as const) {
    const error = await failureOf(ask(address, { tls: shown }));
    t.deepEqual([error.code, error.message], ['UNAVAILABLE', `the agent ${why}`], what);
    t.regex(error.next ?? '', CHECK_TLS, what);
  }
});

test('a connection that is closed, reset or met with silence is not blamed on TLS', async (t) => {
  const ca = new TestCa();
  t.teardown(() => ca.remove());
  const tls = read(ca, 'client');
  const closed = 'the agent closed the connection before it was set up';
  const reset = 'the agent reset the connection';
  for (const [what, serve, why] of [
    ['closes at once', (socket: Socket) => socket.destroy(), closed],
    ['dies in the handshake', (socket: Socket) => void socket.once('data', () => socket.end()), closed],
    [
      'resets in the handshake',
      (socket: Socket) => void socket.once('data', () => socket.resetAndDestroy()),
      reset,
    ],
    ['resets at once', (socket: Socket) => socket.resetAndDestroy(), reset],
  ] as const) {
    const address = await tcp(t, serve);
    for (const shown of [undefined, tls]) {
      const error = await failureOf(ask(address, { tls: shown }));
      t.deepEqual([error.code, error.message, error.next], ['UNAVAILABLE', why, CHECK_THE_WAY], what);
    }
  }
  const hole = await tcp(t, () => undefined);
  const silent = await failureOf(ask(hole, { deadlineMs: 500 }));
  t.deepEqual(
    [silent.code, silent.message],
    ['DEADLINE_EXCEEDED', 'the agent did not answer in time: no connection was set up'],
  );
  const other = await failureOf(ask(await tcp(t, (socket) => void socket.write('SSH-2.0-x\r\n'))));
  t.is(other.message, 'the agent answers with something that is no gRPC');
});

test('a server that dies during a call', async (t) => {
  let begin = (): void => undefined;
  const begun = new Promise<void>((resolve) => (begin = resolve));
  const server = await serve(() => {
    begin();
    return new Promise(() => undefined);
  });
  const through = await tcp(t, (socket) => {
    const [, port] = server.address.split(':');
    const further = connect(Number(port), '127.0.0.1');
    further.on('error', () => undefined);
    socket.pipe(further).pipe(socket);
    void begun.then(() => (further.destroy(), socket.destroy()));
  });
  const error = await failureOf(ask(through));
  t.deepEqual(
    [error.code, error.message, error.next],
    [
      'UNAVAILABLE',
      'the agent is not reached any more: the connection was lost during the call',
      CHECK_THE_WAY,
    ],
  );
  await server.stop();
});

test('certificates that cannot be used are refused with the flag and the file', (t) => {
  const ca = new TestCa();
  t.teardown(() => ca.remove());
  const [a, b] = [ca.issue('a'), ca.issue('b')];
  const messageFor = (paths: { tlsCa?: string; tlsCert?: string; tlsKey?: string }): string => {
    const error = t.throws(() =>
      readTls({ tlsCa: undefined, tlsCert: undefined, tlsKey: undefined, ...paths }),
    );
    return messageOf(error);
  };
  t.is(readTls({ tlsCa: undefined, tlsCert: undefined, tlsKey: undefined }), undefined);
  t.regex(messageFor({ tlsCa: ca.ca }), /only some of/);
  t.is(
    messageFor({ tlsCa: '/no/ca', tlsCert: a.cert, tlsKey: a.key }),
    '--tls-ca: /no/ca: there is no such file',
  );
  t.regex(
    messageFor({ tlsCa: a.key, tlsCert: a.cert, tlsKey: a.key }),
    /^--tls-ca: .*a\.key is not a certificate/,
  );
  t.regex(
    messageFor({ tlsCa: ca.ca, tlsCert: a.cert, tlsKey: a.cert }),
    /^--tls-key: .*a\.pem is not a private key/,
  );
  t.is(
    messageFor({ tlsCa: ca.ca, tlsCert: a.cert, tlsKey: b.key }),
    `--tls-key: ${b.key} is not the key of ${a.cert}`,
  );
  t.deepEqual(Object.keys(readEtcdTls({ etcdCa: ca.ca, etcdCert: a.cert, etcdKey: a.key }) ?? {}), [
    'ca',
    'cert',
    'key',
  ]);
  t.deepEqual(Object.keys(readEtcdTls({ etcdCa: ca.ca, etcdCert: undefined, etcdKey: undefined }) ?? {}), [
    'ca',
  ]);
  t.regex(messageFor({ tlsCa: join(ca.folder), tlsCert: a.cert, tlsKey: a.key }), /^--tls-ca: /);
});

test('an address in use names its owner', async (t) => {
  const first = await serve(() => Promise.resolve(DetachResponse.create({})));
  const error = await failureOf(
    listenGrpc(new Server(), hostPort({ listen: true }).parse(first.address, 'x'), undefined),
  );
  t.is(error.code, 'FAILED_PRECONDITION');
  t.regex(
    error.message,
    new RegExp(`^--listen: ${first.address} is already in use by .+ \\(pid ${process.pid}\\)$`),
  );
  await first.stop();
});

for (const [what, text] of [
  ['characters of two halves, cut between them', `x${'😀'.repeat(3000)}`],
  ['characters that take nine when they are encoded', '中'.repeat(3000)],
  ['a long text', 'y'.repeat(20_000)],
] as const) {
  test(`an error crosses the connection, shortened to the room that it has: ${what}`, async (t) => {
    const { address, stop } = await serve(() => Promise.reject(invalidArgument(text, text)));
    t.teardown(stop);
    const error = await t.throwsAsync(ask(address), { instanceOf: WeftError });
    t.is(error?.code, 'INVALID_ARGUMENT');
    for (const part of [error?.message, error?.next]) {
      t.true(part?.endsWith('…') === true && text.startsWith(part.slice(0, -1)) && part.length > 300, part);
    }
  });
}

test('a wrongly encoded next step of a peer is shown as it is', (t) => {
  const metadata = new Metadata();
  metadata.set('weft-next', 'Give 100%.');
  const error: ServiceError = Object.assign(new Error('no'), {
    code: status.NOT_FOUND,
    details: 'no',
    metadata,
  });
  t.is(fromServiceError(error, { peer: 'x' }).next, 'Give 100%.');
});
