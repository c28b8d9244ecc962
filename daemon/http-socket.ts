// HTTP/1.1 on unix sockets, for root alone: POST /NAME, text in, JSON out.
//
// For programs that start often and should start little: a shell script asks in a few milliseconds what a gRPC client takes a hundred for.
// What a request means and how an error is told is its server's (Docker's plugin, the agent's own socket).
import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { dirname } from 'node:path';

import { failedPrecondition, messageOf } from '../core/errors.js';
import { answers } from './unix-socket.js';

/** The largest real request has a few hundred published ports. */
const MAX_BODY = 4 << 20;
/** Timeout of an incomplete request. */
const REQUEST_MS = 10_000;
/** sun_path of unix(7), less the terminating zero. */
const MAX_PATH = 107;

export interface HttpRequest {
  /** GET, POST … */
  method: string;
  /** The path without its slashes and its query. */
  name: string;
  body: string;
  /** The caller's connection. */
  socket: Socket;
  /** Aborted if the caller goes away before it is answered. */
  signal: AbortSignal;
}

export interface HttpAnswer {
  status: number;
  /** Absent: no content. */
  body?: object;
  /** What the caller wanted to change, for the audit log; absent: nothing. */
  change?: Change;
}

export interface Change {
  method: string;
  object: Readonly<Record<string, string>>;
  /** Why it was not changed. */
  why?: string;
  /** Of the error; absent: FAILED. */
  code?: string;
}

export interface HttpOptions {
  contentType?: string;
  answer: (request: HttpRequest) => Promise<HttpAnswer>;
  /** The answer where `answer` has thrown, or the request is too long. */
  failed: (name: string, error: unknown) => HttpAnswer;
}

export interface HttpSocketOptions extends HttpOptions {
  path: string;
  /** The setting that names the path, in errors. */
  setting: string;
}

/** @throws WeftError FAILED_PRECONDITION if another process listens there, or the socket cannot be made */
export async function serveHttpSocket(options: HttpSocketOptions): Promise<{ stop(): Promise<void> }> {
  const { path, setting } = options;
  if (await answers(path)) {
    throw failedPrecondition(
      `another program serves at ${path}`,
      `Stop it, or give this agent another ${setting} (none turns it off).`,
    );
  }
  const server = serverOf(options);
  await listen(server, path, setting);
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

function serverOf(options: HttpOptions): Server {
  const server = createServer(
    { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS },
    (request, response) => {
      void handle(options, request, response);
    },
  );
  // A caller reuses its connections; a request on one that the server closes would fail.
  server.keepAliveTimeout = 0;
  server.on('clientError', (_error, socket) => socket.destroy());
  return server;
}

/** Serves connections that another server has accepted. */
export class HttpConnections {
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  readonly #busy = new Set<Socket>();
  #stopped: (() => void) | undefined;

  constructor(options: HttpOptions) {
    this.#server = serverOf(options);
    this.#server.on('request', ({ socket }, response) => {
      this.#busy.add(socket);
      response.once('close', () => {
        this.#busy.delete(socket);
        if (this.#stopped !== undefined) socket.destroy();
      });
    });
  }

  accept(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => {
      this.#open.delete(socket);
      if (this.#open.size === 0) this.#stopped?.();
    });
    this.#server.emit('connection', socket);
  }

  /** Requests in flight get a moment to end. */
  stop(graceMs = 1000): Promise<void> {
    return new Promise((resolve) => {
      if (this.#open.size === 0) return resolve();
      const force = setTimeout(() => this.#open.forEach((socket) => socket.destroy()), graceMs);
      this.#stopped = () => {
        clearTimeout(force);
        resolve();
      };
      for (const socket of this.#open) if (!this.#busy.has(socket)) socket.destroy();
    });
  }
}

async function listen(server: Server, path: string, setting: string): Promise<void> {
  try {
    // Node.js would cut it off, and listen somewhere else.
    if (Buffer.byteLength(path) > MAX_PATH) throw new Error('its path is too long for the kernel');
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
    throw failedPrecondition(`the socket ${path} cannot be made: ${messageOf(error)}`, `Check ${setting}.`, {
      cause: error,
    });
  }
}

async function handle(
  options: HttpOptions,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { contentType = 'application/json' } = options;
  const gone = new AbortController();
  response.once('close', () => {
    if (!response.writableFinished) gone.abort(new Error('the caller has gone away'));
  });
  const name = (request.url ?? '').replace(/^\/+/, '').split('?')[0] ?? '';
  let answer: HttpAnswer;
  try {
    const body = await read(request);
    const { method = '', socket } = request;
    answer = await options.answer({ method, name, body, socket, signal: gone.signal });
  } catch (error) {
    if (request.destroyed && !request.complete) return;
    answer = options.failed(name, error);
  }
  if (response.destroyed) return;
  const bytes = Buffer.from(answer.body === undefined ? '' : JSON.stringify(answer.body));
  response.writeHead(answer.status, { 'content-type': contentType, 'content-length': bytes.length });
  response.end(bytes);
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
