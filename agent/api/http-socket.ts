// The agent's HTTP socket, beside gRPC: for programs of this host that start for every container.
//
// A shell script asks it in a few milliseconds. Whatever serves programs there adds a route (POST /NAME) before the
// socket opens: plugins do (CNI). An answer is JSON; an error is {"error":{"code","message","next"}} with status 400, and 500 for
// a fault in weft.
import { randomUUID } from 'node:crypto';

import { messageOf, WeftError } from '../../core/errors.js';
import type { AuditLog } from '../../daemon/audit.js';
import { serveHttpSocket, type Change, type HttpAnswer, type HttpRequest } from '../../daemon/http-socket.js';
import type { Logger } from '../../daemon/log.js';
import type { HttpHandler } from '../../daemon/plugin-host.js';
import { uidOf } from './server.js';

export class HttpRoutes {
  readonly #handlers = new Map<string, HttpHandler>();

  constructor(
    private readonly log: Logger,
    private readonly audit?: Pick<AuditLog, 'write'>,
  ) {}

  add(name: string, handler: HttpHandler): void {
    this.#handlers.set(name, handler);
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

  #write({ why, ...change }: Change, uid: number, ms: number): void {
    this.audit?.write({
      ...{ time: new Date().toISOString(), id: randomUUID(), actor: { uid }, ...change },
      ...{ code: why === undefined ? 'OK' : 'FAILED', ...(why !== undefined && { why }), ms: Math.round(ms) },
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
