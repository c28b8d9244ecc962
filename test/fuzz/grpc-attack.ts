// Attacks on a gRPC server.
//
// Random messages for every method, and bytes that are no message, no frame and no HTTP/2. The server must answer each call in
// time and with a readable error, and serve as before afterwards.
import { connect as connectHttp2, constants, type ClientHttp2Session } from 'node:http2';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { gzipSync } from 'node:zlib';

import { Client, Metadata, status, type ServiceError } from '@grpc/grpc-js';
import fc from 'fast-check';

import { channel } from '../../daemon/grpc.js';
import type { Tls } from '../../daemon/tls.js';
import { slowness } from '../lab/wait.js';
import { unclear } from './garbage.js';
import { fieldsOf, messagesOf, type Method } from './messages.js';

/** A unix socket's path, or HOST:PORT; with certificates everything is sent within TLS. */
export type Address = { socket: string } | { host: string; port: number; tls?: Tls };

export interface Target {
  address: Address;
  methods: readonly Method[];
  /** Texts with a meaning for the server. */
  words: readonly string[];
  /** By the path of a method: a required first message. Half of the calls begin with it. */
  openings?: ReadonlyMap<string, Uint8Array>;
  /** @throws Error unless the daemon is alive and answers */
  alive: () => Promise<void>;
  /** Deadline of a single call, in milliseconds; default 10 s. */
  deadlineMs?: number;
}

export interface Counters {
  calls: number;
  /** Number of answers by gRPC's names of codes. */
  answers: Record<string, number>;
}

const DEADLINE_MS = 10_000;
/** How long a stream is read, in milliseconds. */
const STREAM_MS = 40;

const clientOf = (address: Address): Client =>
  'socket' in address
    ? new Client(`unix:${address.socket}`, ...channel('', undefined))
    : new Client(
        `${address.host}:${address.port}`,
        ...channel(`${address.host}:${address.port}`, address.tls),
      );

const asIs = (bytes: Uint8Array): Buffer => Buffer.from(bytes);

/** The error of a call; undefined where it succeeded. */
type Answer = Pick<ServiceError, 'code' | 'details'> | undefined;

function unaryCall(client: Client, path: string, body: Uint8Array, deadlineMs: number): Promise<Answer> {
  return new Promise((resolve) => {
    const deadline = Date.now() + deadlineMs * slowness;
    client.makeUnaryRequest(path, asIs, asIs, body, new Metadata(), { deadline }, (error) =>
      resolve(error ?? undefined),
    );
  });
}

/** Sends several messages in turn; a stream that the server does not end is cancelled after a moment. */
function streamCall(client: Client, method: Method, bodies: readonly Uint8Array[]): Promise<Answer> {
  return new Promise((resolve) => {
    const stream = client.makeBidiStreamRequest(method.path, asIs, asIs, new Metadata(), {
      deadline: Date.now() + DEADLINE_MS * slowness,
    });
    const enough = setTimeout(() => stream.cancel(), STREAM_MS);
    let refused: Answer;
    stream.on('data', () => undefined);
    stream.on('error', (error: ServiceError) => {
      if (error.code !== status.CANCELLED) refused = error;
    });
    stream.on('status', () => {
      clearTimeout(enough);
      resolve(refused);
    });
    for (const body of bodies) stream.write(body);
    if (!method.requestStream) stream.end();
  });
}

/** @throws Error for an answer that is useless to a caller */
function judge(answer: Answer): void {
  if (answer === undefined) return;
  const { code, details } = answer;
  const text = `${status[code]}: ${JSON.stringify(details.slice(0, 500))}`;
  if ([status.UNKNOWN, status.INTERNAL, status.DEADLINE_EXCEEDED].includes(code)) throw new Error(text);
  const why = /does not implement/.test(details) ? 'the method is not served' : unclear(details);
  if (why !== undefined) throw new Error(`${text}: ${why}`);
}

/** Calls every method `runs` times, with messages of its own fields. */
export async function attackMethods(target: Target, runs: number): Promise<Counters> {
  const { address, methods, words, alive, deadlineMs = DEADLINE_MS, openings } = target;
  const counters: Counters = { calls: 0, answers: {} };
  const client = clientOf(address);
  try {
    for (const method of methods) {
      const messages = messagesOf(fieldsOf(method.requestDeserialize), words);
      const one = async (bodies: readonly Uint8Array[]): Promise<void> => {
        const streams = method.requestStream || method.responseStream;
        const answer = streams
          ? await streamCall(client, method, bodies)
          : await unaryCall(client, method.path, bodies[0] ?? new Uint8Array(), deadlineMs);
        counters.calls++;
        const name = status[answer?.code ?? status.OK];
        counters.answers[name] = (counters.answers[name] ?? 0) + 1;
        try {
          judge(answer);
          // A failed connection is a failed server.
          if (answer?.code === status.UNAVAILABLE && /ECONN|dropped|ENOENT/.test(answer.details))
            throw new Error(answer.details);
        } catch (error) {
          const requests = bodies.map((body) =>
            JSON.stringify(method.requestDeserialize(asIs(body))).slice(0, 2000),
          );
          throw new Error(`${method.path} ${requests.join(' ')}`, { cause: error });
        }
      };
      const opening = openings?.get(method.path);
      const bodies = fc
        .tuple(fc.boolean(), fc.array(messages, { minLength: 1, maxLength: method.requestStream ? 6 : 1 }))
        .map(([opened, all]) => (opened && opening !== undefined ? [opening, ...all] : all));
      await fc.assert(fc.asyncProperty(bodies, one), { numRuns: runs, includeErrorInReport: true });
      await alive();
    }
  } finally {
    client.close();
  }
  return counters;
}

/** Bodies that are no message, in valid frames. */
export async function attackBodies(target: Target, runs: number): Promise<void> {
  const { address, methods, alive } = target;
  const client = clientOf(address);
  const bytes = fc.uint8Array({ maxLength: 200 });
  try {
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...methods), bytes, async (method, body) => {
        const streams = method.requestStream || method.responseStream;
        const answer = streams
          ? await streamCall(client, method, [body])
          : await unaryCall(client, method.path, body, DEADLINE_MS);
        // A message that cannot be decoded is INTERNAL, by gRPC's library (grpc.io, status codes generated by the library).
        if (answer?.details === 'Error deserializing request') return;
        judge(answer);
      }),
      { numRuns: runs, includeErrorInReport: true },
    );
    await alive();
  } finally {
    client.close();
  }
}

const PREFACE = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n';

/** One frame of HTTP/2 (RFC 9113 §4.1) with any content. */
const frame = fc
  .tuple(fc.nat(12), fc.nat(255), fc.nat(2 ** 31 - 1), fc.uint8Array({ maxLength: 64 }), fc.boolean())
  .map(([type, flags, stream, payload, lies]) => {
    const head = Buffer.alloc(9);
    head.writeUIntBE(lies ? payload.length * 3 + 7 : payload.length, 0, 3);
    head.writeUInt8(type, 3);
    head.writeUInt8(flags, 4);
    head.writeUInt32BE(stream < 2 ** 30 ? stream % 6 : stream, 5);
    return Buffer.concat([head, payload]);
  });

/** Bytes for a socket that expects HTTP/2. */
const raw = fc.oneof(
  fc.uint8Array({ maxLength: 400 }).map((bytes) => Buffer.from(bytes)),
  fc.constantFrom(
    Buffer.alloc(0),
    Buffer.from('GET / HTTP/1.1\r\n\r\n'),
    Buffer.from(PREFACE),
    Buffer.alloc(70_000),
  ),
  fc.array(frame, { maxLength: 12 }).map((frames) => Buffer.concat([Buffer.from(PREFACE), ...frames])),
  // The initial settings of both sides, and then anything.
  fc
    .array(frame, { minLength: 1, maxLength: 12 })
    .map((frames) =>
      Buffer.concat([Buffer.from(PREFACE), Buffer.from('000000040000000000', 'hex'), ...frames]),
    ),
);

export function openSocket(address: Address): Socket {
  if ('socket' in address) return connect(address.socket);
  const { host, port, tls } = address;
  return tls === undefined ? connect(port, host) : connectTls({ host, port, ...tls, ALPNProtocols: ['h2'] });
}

/** Writes, waits a moment for an answer, and drops the connection. */
export async function throwBytes(address: Address, bytes: Buffer, lingerMs = 5): Promise<void> {
  const socket = openSocket(address);
  socket.on('error', () => undefined);
  socket.on('data', () => undefined);
  const opened = 'tls' in address ? 'secureConnect' : 'connect';
  await new Promise((resolve) => socket.on(opened, resolve).on('close', resolve));
  socket.write(bytes);
  await new Promise((resolve) => setTimeout(resolve, lingerMs));
  socket.destroy();
}

export async function attackBytes({ address, alive }: Target, runs: number): Promise<void> {
  await fc.assert(
    fc.asyncProperty(raw, (bytes) => throwBytes(address, bytes)),
    { numRuns: runs },
  );
  await alive();
}

/** gRPC's own framing (5 bytes, then the message), also with gzip content. */
const framed = (flag: number, length: number, payload: Uint8Array): Buffer => {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, payload]);
};
const bomb = gzipSync(Buffer.alloc(64 << 20));
const grpcBody = fc.oneof(
  fc.tuple(fc.nat(255), fc.nat(2 ** 32 - 1), fc.uint8Array({ maxLength: 64 })).map((one) => framed(...one)),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => framed(0, bytes.length, bytes)),
  fc.uint8Array({ maxLength: 64 }).map((bytes) => framed(1, bytes.length, bytes)),
  fc.constantFrom(
    Buffer.alloc(0),
    Buffer.alloc(4),
    framed(1, bomb.length, bomb),
    framed(0, 2 ** 32 - 1, bomb),
  ),
);
const header = fc.string({ unit: fc.constantFrom(...Array.from('abc019 /+;:%=~\u0000é')), maxLength: 30 });

/** HTTP/2 requests that no gRPC client would send. */
export async function attackRequests({ address, methods, alive }: Target, runs: number): Promise<void> {
  const authority = 'socket' in address ? 'localhost' : `${address.host}:${address.port}`;
  const scheme = 'tls' in address ? 'https' : 'http';
  const open = (): ClientHttp2Session =>
    connectHttp2(`${scheme}://${authority}`, { createConnection: () => openSocket(address) }).on(
      'error',
      () => undefined,
    );
  let session = open();
  const headers = fc.record({
    ':method': fc.oneof(
      { weight: 4, arbitrary: fc.constant('POST') },
      fc.constantFrom('GET', 'DANCE', 'CONNECT'),
    ),
    ':path': fc.oneof(
      fc.constantFrom(...methods.map(({ path }) => path)),
      fc.webPath(),
      fc.constantFrom('', '*'),
    ),
    'content-type': fc.oneof({ weight: 4, arbitrary: fc.constant('application/grpc') }, header),
    te: fc.constantFrom('trailers', 'gzip'),
    'grpc-timeout': fc.oneof(fc.constant('5S'), header, fc.constantFrom('99999999H', '0n', '-1S', '1')),
    'grpc-encoding': fc.oneof(fc.constantFrom('identity', 'gzip', 'deflate', 'zstd'), header),
    'x-bin': fc.oneof(fc.constant('!!'), header),
  });
  const once2 = async (given: Record<string, string>, body: Buffer): Promise<void> => {
    if (session.closed || session.destroyed) session = open();
    await new Promise<void>((resolve) => {
      try {
        const request = session.request(given);
        const late = setTimeout(() => request.close(constants.NGHTTP2_CANCEL), STREAM_MS);
        request.on('data', () => undefined);
        request.on('error', () => undefined);
        request.on('close', () => {
          clearTimeout(late);
          resolve();
        });
        request.end(body);
      } catch {
        // Node's own client refuses to send it.
        resolve();
      }
    });
  };
  try {
    await fc.assert(fc.asyncProperty(headers, grpcBody, once2), { numRuns: runs });
    await alive();
  } finally {
    session.destroy();
  }
}
