// HTTP client of a Docker engine: one request, or its stream of events.
import { request } from 'node:http';

import { messageOf, permissionDenied, unavailable } from '../core/errors.js';
import { errnoOf } from './errno.js';
import type { EngineAddress } from './kinds.js';

const TIMEOUT_MS = 5_000;
/** A line of Docker's events is a few hundred bytes. */
const MAX_LINE = 1 << 20;

/** @throws WeftError UNAVAILABLE where the engine does not answer in time, PERMISSION_DENIED where its socket is not ours to use */
export function askEngine(
  engine: EngineAddress,
  path: string,
  timeoutMs = TIMEOUT_MS,
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => reject(away(engine, error));
    const call = request({ ...engine, path, method: 'GET', timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', fail);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
      );
    });
    call.on('timeout', () => call.destroy(new Error(`no answer within ${timeoutMs / 1000} s`)));
    call.on('error', fail);
    call.end();
  });
}

/**
 * Calls back with every line of an answer that does not end, until it does or the signal ends it.
 * @param opened the engine has begun to answer
 * @throws WeftError UNAVAILABLE where the engine does not answer, or breaks off
 */
export function streamEngine(
  engine: EngineAddress,
  path: string,
  { opened, line, signal }: { opened: () => void; line: (text: string) => void; signal: AbortSignal },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: unknown): void => (signal.aborted ? resolve() : reject(away(engine, error)));
    const call = request({ ...engine, path, method: 'GET', signal }, (response) => {
      if (response.statusCode !== 200) {
        response.resume();
        return fail(new Error(`it answered ${response.statusCode}`));
      }
      opened();
      let rest = '';
      response.setEncoding('utf8');
      response.on('data', (text: string) => {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        if (rest.length > MAX_LINE) call.destroy(new Error('a line of its answer has no end'));
        for (const one of lines) if (one.trim() !== '') line(one);
      });
      response.on('error', fail);
      response.on('end', () => fail(new Error('it ended its answer')));
    });
    call.on('error', fail);
    call.end();
  });
}

function away(engine: EngineAddress, error: unknown): Error {
  const errno = errnoOf(error);
  if (errno === 'EACCES' || errno === 'EPERM') {
    return permissionDenied(
      `the Docker engine at ${shownEngine(engine)} may not be asked: permission denied`,
      'Run the agent as root, or as a member of the group that the socket belongs to.',
      { cause: error },
    );
  }
  return unavailable(
    `the Docker engine at ${shownEngine(engine)} does not answer: ${messageOf(error)}`,
    'Start Docker, or name its address with --docker.',
    { cause: error },
  );
}

export const shownEngine = (engine: EngineAddress): string =>
  'socketPath' in engine ? engine.socketPath : `${engine.host}:${engine.port}`;
