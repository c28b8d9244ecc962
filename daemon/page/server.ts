// HTTP server of the page: its files, the live stream, and questions.
//
// It changes nothing in the cluster. Who asks is decided by its owner: on loopback by a link that counts once, in a controller by
// the browser's certificate.
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createSecureServer, type Server as SecureServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';

import { resourceExhausted, type WeftError } from '../../core/errors.js';
import { explainListenError } from '../port-owner.js';
import type { HostPort } from '../kinds.js';
import type { Logger } from '../log.js';
import type { Tls } from '../tls.js';
import { ownFile } from '../version.js';
import { foreign, HEADERS, hostsOf, OneTimeAccess } from './access.js';
import { failureOf, serveLive, type CheckRight, type SendUpdate } from './live.js';
import { answer } from './questions.js';
import type { Source } from './source.js';
import { TrafficHistory } from './traffic.js';
import type { Update } from './update.js';

/** Streams at once: four watches each, of the 64 streams that a controller serves to one connection. */
const MOST_STREAMS = 8;
const MOST_QUESTIONS = 16;
const MOST_BODY = 16 * 1024;
/** A proxy or a browser takes a stream for dead that says nothing. */
const BEAT_MS = 15_000;

const FILES = {
  '/': ['build/page/index.html', 'text/html; charset=utf-8'],
  '/icon.svg': ['build/page/icon.svg', 'image/svg+xml'],
  '/page.js': ['build/page/page.js', 'text/javascript; charset=utf-8'],
  '/style.css': ['build/page/style.css', 'text/css; charset=utf-8'],
} as const;

export interface PageOptions {
  listen: HostPort;
  source: Source;
  /** For errors of the address. */
  flag: string;
  /** By TLS: the certificate, and which of its caller's calls are allowed. Undefined: on loopback, by a link. */
  secure?: { tls: Tls; names: readonly string[]; rightOf: (socket: TLSSocket) => CheckRight };
  log?: Pick<Logger, 'debug'>;
}

export class PageServer {
  readonly #access = new OneTimeAccess();
  readonly #traffic: TrafficHistory;
  readonly #over = new AbortController();
  readonly #server: Server;
  #hosts: readonly string[] = [];
  #address = '';
  #streams = 0;
  #questions = 0;

  private constructor(private readonly options: PageOptions) {
    const { secure, source } = options;
    this.#traffic = new TrafficHistory(source);
    const listener: RequestListener = (request, response) => void this.#handle(request, response);
    this.#server =
      secure === undefined
        ? createServer(listener)
        : createSecureServer({ ...secure.tls, requestCert: true, rejectUnauthorized: true }, listener);
    this.#server.requestTimeout = 10_000;
    this.#server.headersTimeout = 10_000;
    this.#server.maxConnections = 64;
  }

  /** @throws WeftError FAILED_PRECONDITION where the address is taken or not this host's */
  static async start(options: PageOptions): Promise<PageServer> {
    const page = new PageServer(options);
    await page.#listen();
    void page.#traffic.run(page.#over.signal);
    return page;
  }

  /** Of the page; on loopback with the secret that counts once. */
  get url(): string {
    return this.options.secure === undefined
      ? `http://${this.#address}${this.#access.path}`
      : `https://${this.#address}/`;
  }

  /** From now on connections are served with these. */
  replace(tls: Tls): void {
    (this.#server as SecureServer).setSecureContext({ ...tls });
  }

  async stop(): Promise<void> {
    this.#over.abort();
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
    this.options.source.close();
  }

  async #listen(): Promise<void> {
    const { listen, flag, secure } = this.options;
    try {
      await new Promise<void>((resolve, reject) => {
        this.#server.once('error', reject).listen(listen.port, listen.host, () => {
          this.#server.off('error', reject);
          resolve();
        });
      });
    } catch (error) {
      throw await explainListenError(error, flag, listen);
    }
    const { port } = this.#server.address() as AddressInfo;
    this.#address = listen.text.replace(/\d+$/, String(port));
    const names = secure === undefined ? [listen.host, 'localhost'] : [listen.host, ...secure.names];
    this.#hosts = hostsOf(names, port, secure === undefined ? 'http' : 'https');
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
      await this.#route(request, response);
    } catch (error) {
      this.options.log?.debug('a request of the page failed', { path: request.url?.split('?')[0], error });
      if (response.headersSent) return void response.destroy();
      const failure = failureOf(error);
      sendJson(response, STATUS[failure.code] ?? 500, { error: failure });
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url = '/' } = request;
    const refusal = foreign(request, this.options.secure === undefined ? 'http' : 'https', this.#hosts);
    if (refusal !== undefined) return sendText(response, 403, `${refusal}\n`);
    if (!URL.canParse(url, 'http://page'))
      return sendText(response, 400, 'the request has no path of a page\n');
    const { pathname: path, searchParams } = new URL(url, 'http://page');
    const key = searchParams.get('key');
    if (this.options.secure === undefined) {
      const isKnown = this.#access.isKnown(request);
      if (path === '/' && key !== null && method === 'GET') {
        const cookie = isKnown ? undefined : this.#access.exchange(key);
        if (!isKnown && cookie === undefined) return sendText(response, 403, USED);
        // The secret does not stay in the address bar.
        response.writeHead(303, { location: '/', ...(cookie !== undefined && { 'set-cookie': cookie }) });
        return void response.end();
      }
      if (!isKnown) return sendText(response, 403, UNKNOWN);
    }
    if (method === 'POST' && path.startsWith('/api/'))
      return await this.#answer(path.slice('/api/'.length), request, response);
    if (method !== 'GET') return sendText(response, 405, 'only GET, and POST of questions\n');
    if (path === '/api/live') return await this.#live(request, response);
    const file = Object.entries(FILES).find(([known]) => known === path)?.[1];
    if (file === undefined) return sendText(response, 404, 'there is no such file\n');
    const content = ownFile(file[0]);
    response.writeHead(200, { 'content-type': file[1] }).end(content);
  }

  #rightOf({ socket }: IncomingMessage): CheckRight {
    const { secure } = this.options;
    // Elsewhere the controller checks the certificate itself.
    return secure === undefined ? () => undefined : secure.rightOf(socket as TLSSocket);
  }

  async #answer(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#questions >= MOST_QUESTIONS) throw tooMuch('questions');
    this.#questions += 1;
    try {
      const gone = new AbortController();
      response.once('close', () => gone.abort());
      const body = await bodyOf(request);
      const { source } = this.options;
      const signal = AbortSignal.any([gone.signal, this.#over.signal]);
      sendJson(
        response,
        200,
        await answer(name, body, { source, checkRight: this.#rightOf(request), signal }),
      );
    } finally {
      this.#questions -= 1;
    }
  }

  async #live(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (this.#streams >= MOST_STREAMS) throw tooMuch('streams');
    this.#streams += 1;
    const gone = new AbortController();
    const signal = AbortSignal.any([gone.signal, this.#over.signal]);
    response.once('close', () => gone.abort());
    response.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' });
    const send = senderTo(response, signal);
    const beat = setInterval(() => void (response.writableNeedDrain || response.write(': \n\n')), BEAT_MS);
    const checkRight = this.#rightOf(request);
    const unsubscribe = this.#follow(checkRight, send);
    try {
      await serveLive({ source: this.options.source, checkRight, send, signal });
    } finally {
      unsubscribe();
      clearInterval(beat);
      this.#streams -= 1;
      response.end();
    }
  }

  /** Traffic to a browser. One that may not see it is told so once. */
  #follow(checkRight: CheckRight, send: SendUpdate): () => void {
    const tell = (update: Update): void => void send(update).catch(() => undefined);
    try {
      checkRight('InspectionService/Inspect');
    } catch (error) {
      tell({ kind: 'lost', of: 'traffic', failure: failureOf(error) });
      return () => undefined;
    }
    tell({ kind: 'traffic', put: [...this.#traffic.points] });
    return this.#traffic.subscribe((put) => tell({ kind: 'traffic', put }));
  }
}

const USED = 'This link was used already, or is of another start of weft ui. Run weft ui again.\n';
const UNKNOWN = 'Open the link that weft ui has printed. If it was used already, run weft ui again.\n';

/** HTTP's statuses of gRPC's codes. */
const STATUS: Readonly<Record<string, number>> = {
  INVALID_ARGUMENT: 400,
  UNAUTHENTICATED: 401,
  PERMISSION_DENIED: 403,
  NOT_FOUND: 404,
  ALREADY_EXISTS: 409,
  FAILED_PRECONDITION: 409,
  RESOURCE_EXHAUSTED: 429,
  UNAVAILABLE: 503,
  DEADLINE_EXCEEDED: 504,
};

const tooMuch = (what: string): WeftError =>
  resourceExhausted(`the page serves no more ${what} at once`, 'Close other tabs of it.');

/** One update after the other: the next one waits until the browser has taken this one. */
function senderTo(response: ServerResponse, signal: AbortSignal): SendUpdate {
  let before: Promise<void> = Promise.resolve();
  const send = async (update: Update): Promise<void> => {
    signal.throwIfAborted();
    // JSON has no line breaks, which would end the event.
    if (response.write(`data: ${JSON.stringify(update)}\n\n`)) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        response.off('drain', done).off('close', done);
        resolve();
      };
      response.once('drain', done).once('close', done);
    });
  };
  return async (update) => {
    const sent = before.then(() => send(update));
    before = sent.catch(() => undefined);
    await sent;
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > MOST_BODY) throw resourceExhausted('the question is too long', 'Ask for less.');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function sendText(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' }).end(text);
}

function sendJson(response: ServerResponse, status: number, value: object): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}
