// Methods on the plugin socket of Docker's engine: POST /Subsystem.Method, JSON.
//
// An error is an answer with status 200, under the key that the subsystem reads; an unknown method is 404.
import type * as z from 'zod';

import { messageOf, WeftError } from '../../core/errors.js';
import { serveHttpSocket, type HttpAnswer, type HttpRequest } from '../../daemon/http-socket.js';
import type { Logger } from '../../daemon/log.js';
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

/** @throws WeftError FAILED_PRECONDITION if another process listens there, or the socket cannot be made */
export const servePlugin = (
  path: string,
  methods: ReadonlyMap<string, Method>,
  log: Logger,
): Promise<{ stop(): Promise<void> }> =>
  serveHttpSocket({
    path,
    setting: '--cnm-socket',
    contentType: CONTENT_TYPE,
    answer: (request) => answer(methods, request, log),
    failed: (name, error) => {
      const message = errorText(error);
      log.warn('a request of Docker failed', { method: name, error: message });
      if (!(error instanceof WeftError)) log.error('a fault in weft', { method: name, error });
      return { status: 200, body: errorAnswer(message) };
    },
  });

async function answer(
  methods: ReadonlyMap<string, Method>,
  { method: verb, name, body }: HttpRequest,
  log: Logger,
): Promise<HttpAnswer> {
  const found = verb === 'POST' ? methods.get(name) : undefined;
  if (found === undefined) return { status: 404, body: errorAnswer(`weft has no method ${verb} ${name}`) };
  const began = performance.now();
  const answered = await found.answer(body);
  log.debug('Docker asked', { method: name, ms: Math.round((performance.now() - began) * 100) / 100 });
  return { status: 200, body: answered };
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
