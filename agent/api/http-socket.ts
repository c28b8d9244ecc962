// HTTP beside gRPC: for programs of this host that start for every container, and for calls that are made often.
//
// A shell script asks by it in a few milliseconds. The agent's own socket has it as well as a socket of its own. Whatever serves
// programs there adds a route (POST /NAME) before a socket opens: plugins do (CNI). An answer is JSON; an error is {"error":{"code","message","next"}} with status 400, and 500 for
// a fault in weft.
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';

import { invalidArgument, messageOf, WeftError } from '../../core/errors.js';
import type { AuditLog } from '../../daemon/audit.js';
import {
  HttpConnections,
  serveHttpSocket,
  type Change,
  type HttpAnswer,
  type HttpRequest,
} from '../../daemon/http-socket.js';
import type { Logger } from '../../daemon/log.js';
import type { HttpHandler } from '../../daemon/plugin-host.js';
import { peerUid } from '../kernel/index.js';

export class HttpRoutes {
  readonly #handlers = new Map<string, HttpHandler>();
  readonly #connections = new HttpConnections({
    answer: (request) => this.#answer(request),
    failed: (name, error) => this.#failed(name, error),
  });

  constructor(
    private readonly log: Logger,
    private readonly audit?: Pick<AuditLog, 'write'>,
  ) {}

  add(name: string, handler: HttpHandler): void {
    this.#handlers.set(name, handler);
  }

  /** A method of the API: its request and answer as JSON. Whoever calls it is in the audit log, as by gRPC. */
  addCall<Q extends { network: string; target: string }>(
    name: string,
    method: string,
    message: { fromJSON(json: unknown): Q },
    run: (request: Q, signal: AbortSignal) => Promise<object>,
  ): void {
    this.add(name, async ({ body, signal }) => {
      const request = message.fromJSON(jsonOf(body));
      const { network, target } = request;
      const change = { method, object: { network, target } };
      try {
        return { status: 200, body: await run(request, signal), change };
      } catch (error) {
        const code = error instanceof WeftError ? error.code : 'INTERNAL';
        return { ...this.#failed(name, error), change: { ...change, why: messageOf(error), code } };
      }
    });
  }

  /** Serves a connection of the agent's own socket. */
  accept(socket: Socket): void {
    this.#connections.accept(socket);
  }

  /** Ends the connections of the agent's own socket. */
  stop(): Promise<void> {
    return this.#connections.stop();
  }

  /** @throws WeftError FAILED_PRECONDITION where another process serves there, or the socket cannot be made */
  open(path: string): Promise<{ stop(): Promise<void> }> {
    return serveHttpSocket({
      path,
      setting: '--cni-socket',
      answer: (request) => this.#answer(request),
      failed: (name, error) => this.#failed(name, error),
    });
  }

  async #answer(request: HttpRequest): Promise<HttpAnswer> {
    const { method, name } = request;
    const handler = method === 'POST' ? this.#handlers.get(name) : undefined;
    if (handler !== undefined) {
      const began = performance.now();
      const uid = uidOf(request.socket);
      const answer = await handler(request);
      if (answer.change !== undefined) this.#write(answer.change, uid, performance.now() - began);
      return answer;
    }
    const routes = [...this.#handlers.keys()].map((one) => `/${one}`).join(', ');
    const message = `there is no ${method} /${name} here`;
    return { status: 404, body: errorBody(new WeftError('UNIMPLEMENTED', message, `POST to ${routes}.`)) };
  }

  #write({ why, code = 'FAILED', ...change }: Change, uid: number, ms: number): void {
    this.audit?.write({
      ...{ time: new Date().toISOString(), id: randomUUID(), actor: { uid }, ...change },
      ...{ code: why === undefined ? 'OK' : code, ...(why !== undefined && { why }), ms: Math.round(ms) },
    });
  }

  #failed(name: string, error: unknown): HttpAnswer {
    if (error instanceof WeftError) return { status: 400, body: errorBody(error) };
    this.log.error('a fault in weft', { route: name, error });
    return {
      status: 500,
      body: errorBody(new WeftError('INTERNAL', `a fault in weft: ${messageOf(error)}`)),
    };
  }
}

const errorBody = ({ code, message, next }: WeftError): object => ({
  error: { code, message, ...(next !== undefined && { next }) },
});

function jsonOf(body: string): object {
  try {
    const json: unknown = JSON.parse(body);
    if (typeof json === 'object' && json !== null && !Array.isArray(json)) return json;
  } catch {
    // No JSON at all.
  }
  throw invalidArgument('the request is no object of JSON', 'See proto/weft/v1 for its fields.');
}

/** Node.js has no name for the descriptor of a socket. */
export function uidOf(socket: Socket): number {
  const handle = Reflect.get(socket, '_handle') as { fd: number } | null;
  return handle === null || handle.fd < 0 ? -1 : peerUid(handle.fd);
}
