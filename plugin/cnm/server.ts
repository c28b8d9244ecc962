// Plugin socket for Docker's engine: HTTP/1.1, POST /Subsystem.Method, JSON.
//
// An error is an answer with status 200, under the key that the subsystem reads; an unknown method is 404.
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';

import type * as z from 'zod';

import { failedPrecondition, messageOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import { answers } from '../../daemon/unix-socket.js';
import { parseRequest } from './protocol.js';

/** One method: parses its request, and returns the answer. */
export interface Method {
  answer: (body: string) => Promise<object>;
}

export function method<T>(
  name: string,
  schema: z.ZodType<T>,
  work: (request: T) => Promise<object> | object,
): Method {
  return { answer: async (body) => await work(parseRequest(name, schema, body)) };
}

/** Docker accepts any type; this one is in its documentation. */
const CONTENT_TYPE = 'application/vnd.docker.plugins.v1+json';
/** The largest real request has a few hundred published ports. */
const MAX_BODY = 4 << 20;
/** Timeout of an incomplete request. */
const REQUEST_MS = 10_000;

/** @throws WeftError FAILED_PRECONDITION if another process listens there, or the socket cannot be made */
export async function servePlugin(
  path: string,
  methods: ReadonlyMap<string, Method>,
  log: Logger,
): Promise<{ stop(): Promise<void> }> {
  if (await answers(path)) {
    throw failedPrecondition(
      `another plugin serves at ${path}`,
      'Stop it, or give this agent another --cnm-socket (none turns it off).',
    );
  }
  const server = createServer(
    { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS },
    (request, response) => {
      void handle(methods, request, response, log);
    },
  );
  // The engine reuses its connections; a request on one that the server closes would fail.
  server.keepAliveTimeout = 0;
  server.on('clientError', (_error, socket) => socket.destroy());
  await listen(server, path);
  return {
    stop: () =>
      new Promise((resolve) => {
        server.close(() => {
          rmSync(path, { force: true });
          resolve();
        });
        server.closeIdleConnections();
        setTimeout(() => server.closeAllConnections(), 1000).unref();
      }),
  };
}

async function listen(server: Server, path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    // A killed agent leaves its socket behind.
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(path, () => {
        server.off('error', reject);
        resolve();
      });
    });
    chmodSync(path, 0o600);
  } catch (error) {
    throw failedPrecondition(
      `the socket ${path} cannot be made: ${messageOf(error)}`,
      'Check --cnm-socket.',
      {
        cause: error,
      },
    );
  }
}

async function handle(
  methods: ReadonlyMap<string, Method>,
  request: IncomingMessage,
  response: ServerResponse,
  log: Logger,
): Promise<void> {
  const name = (request.url ?? '').replace(/^\/+/, '').split('?')[0] ?? '';
  const found = request.method === 'POST' ? methods.get(name) : undefined;
  try {
    const body = await read(request);
    if (found === undefined)
      return send(response, 404, errorAnswer(`weft has no method ${request.method ?? ''} ${name}`));
    const began = performance.now();
    const answer = await found.answer(body);
    log.debug('Docker asked', { method: name, ms: Math.round((performance.now() - began) * 100) / 100 });
    send(response, 200, answer);
  } catch (error) {
    if (request.destroyed && !request.complete) return;
    const message = errorText(error);
    log.warn('a request of Docker failed', { method: name, error: message });
    if (!(error instanceof WeftError)) log.error('a fault in weft', { method: name, error });
    send(response, 200, errorAnswer(message));
  }
}

/** Docker shows an error as one text: cause and next step. */
function errorText(error: unknown): string {
  if (!(error instanceof WeftError) || error.next === undefined) return messageOf(error);
  return inDockersWords(`${error.message.replace(/[.]$/, '')}. ${error.next}`);
}

/** Flags of `weft network create`, as `docker network create` has them. */
const inDockersWords = (text: string): string =>
  text
    .replaceAll(/--(host-prefix6?)\b/g, '--ipam-opt weft.$1=N')
    .replaceAll(/--(vni|mtu)\b/g, '-o weft.$1=N');

/** Docker reads network drivers' errors under Err, IPAM drivers' under Error. */
const errorAnswer = (message: string): object => ({ Err: message, Error: message });

function send(response: ServerResponse, status: number, answer: object): void {
  if (response.destroyed) return;
  const body = Buffer.from(JSON.stringify(answer));
  response.writeHead(status, { 'content-type': CONTENT_TYPE, 'content-length': body.length });
  response.end(body);
}

function read(request: IncomingMessage): Promise<string> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on('data', (chunk: Buffer) => {
      size += chunk.length;
      if (size <= MAX_BODY) chunks.push(chunk);
    });
    request.on('end', () => {
      if (size > MAX_BODY) reject(failedPrecondition(`the request is too long: ${size} bytes`));
      else resolve(Buffer.concat(chunks).toString());
    });
    request.on('error', reject);
    request.on('close', () => reject(new Error('the request was broken off')));
  });
}
