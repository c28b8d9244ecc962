// HTTP server of a daemon: /metrics for Prometheus, /healthz (the process runs), /readyz (it can do its work).
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';

import type { Registry } from 'prom-client';

import { visible } from '../core/text.js';
import type { HostPort } from './kinds.js';
import type { Logger } from './log.js';
import { explainListenError } from './port-owner.js';

export type Readiness = { ready: true } | { ready: false; reason: string };

/** Enough that those who hold connections, each for as long as a request may take, do not shut out who asks for /readyz. */
const MOST_CONNECTIONS = 1024;
/** Answers under way at once: each may be the metrics, for a client that does not read them. */
const MOST_ANSWERS = 64;

export interface HttpServer {
  /** The bound HOST:PORT. */
  readonly address: string;
  stop(): Promise<void>;
}

/** @throws WeftError FAILED_PRECONDITION where the address is taken or not this host's */
export async function startHttp(options: {
  listen: HostPort;
  registry: Registry;
  readiness: () => Readiness;
  log: Logger;
}): Promise<HttpServer> {
  const { listen, registry, readiness, log } = options;
  let answers = 0;
  const server = createServer((request, response) => {
    if (answers >= MOST_ANSWERS) return void response.writeHead(503, { Connection: 'close' }).end();
    answers += 1;
    response.once('close', () => (answers -= 1));
    answer(request, response, registry, readiness).catch((error: unknown) => {
      log.warn('an HTTP request failed', { path: request.url, error });
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  // A scraper that stalls must not keep the daemon from ending.
  server.requestTimeout = 10_000;
  server.headersTimeout = 10_000;
  server.timeout = 30_000;
  server.maxConnections = MOST_CONNECTIONS;
  await listenOn(server, listen);
  const bound = server.address();
  return {
    address:
      bound === null || typeof bound === 'string'
        ? listen.text
        : listen.text.replace(/\d+$/, String(bound.port)),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listenOn(server: Server, { host, port, text }: HostPort): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(port, host, () => {
        server.off('error', reject);
        resolve();
      });
    });
  } catch (error) {
    throw await explainListenError(error, '--http', { host, port, text });
  }
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  registry: Registry,
  readiness: () => Readiness,
): Promise<void> {
  const [path] = (request.url ?? '/').split('?');
  const send = (status: number, body: string, type = 'text/plain; charset=utf-8'): void => {
    response.writeHead(status, { 'content-type': type }).end(request.method === 'HEAD' ? undefined : body);
  };
  if (request.method !== 'GET' && request.method !== 'HEAD') return send(405, 'only GET\n');
  if (path === '/healthz') return send(200, 'ok\n');
  if (path === '/metrics') return send(200, await registry.metrics(), registry.contentType);
  if (path === '/readyz') {
    const state = readiness();
    return state.ready ? send(200, 'ok\n') : send(503, `${visible(state.reason)}\n`);
  }
  return send(404, 'there are /metrics, /healthz and /readyz\n');
}
