// Calls of this host's agent by HTTP: without gRPC, which takes longer to load than an attach to be made.
import { request as httpRequest } from 'node:http';

import { parseErrorCode, WeftError } from '../core/errors.js';
import { hangs } from './hangs.js';

/**
 * @param socket the agent's
 * @param name of the route
 * @param request as JSON
 * @returns undefined where nobody answers by HTTP: gRPC says why
 * @throws WeftError as the agent answered, DEADLINE_EXCEEDED
 */
export async function callByHttp(
  socket: string,
  name: string,
  request: unknown,
  deadlineMs: number,
): Promise<unknown> {
  const answer = await post(socket, name, JSON.stringify(request), deadlineMs);
  if (answer === undefined || answer.status === 404) return undefined;
  const json = parse(answer.text);
  if (answer.status === 200 || json?.error === undefined) return json;
  const { code = '', message = '', next } = json.error;
  throw new WeftError(parseErrorCode(code), message, next);
}

function parse(text: string): { error?: { code?: string; message?: string; next?: string } } | undefined {
  try {
    return JSON.parse(text) as object;
  } catch {
    return undefined;
  }
}

interface Answer {
  status: number;
  text: string;
}

function post(
  socketPath: string,
  name: string,
  body: string,
  deadlineMs: number,
): Promise<Answer | undefined> {
  return new Promise((resolve, reject) => {
    const call = httpRequest({ socketPath, path: `/${name}`, method: 'POST', agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part));
      response.on('end', () => {
        clearTimeout(late);
        resolve({ status: response.statusCode ?? 0, text });
      });
    });
    const late = setTimeout(() => {
      reject(hangs(`the agent at ${socketPath}`));
      call.destroy();
    }, deadlineMs);
    call.on('error', () => {
      clearTimeout(late);
      resolve(undefined);
    });
    call.end(body);
  });
}
