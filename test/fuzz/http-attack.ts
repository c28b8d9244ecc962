// Attacks on an HTTP/1.1 server.
//
// Invalid methods, paths and headers, partial requests, bytes, and connections that are held open. Every complete request is
// answered, the rest is refused or cut, and the server goes on serving meanwhile.
import type { Socket } from 'node:net';

import fc from 'fast-check';

import { slowness } from '../lab/wait.js';
import { unclear, word } from './garbage.js';
import { openSocket, throwBytes, type Address } from './grpc-attack.js';

const ANSWER_MS = 8000;

/** The answer, until the server or the timeout ends it. */
async function exchange(address: Address, bytes: Buffer, withinMs: number): Promise<string> {
  const socket = openSocket(address);
  let got = '';
  socket.setEncoding('utf8');
  socket.on('data', (part: string) => (got += part));
  socket.on('error', () => undefined);
  const late = setTimeout(() => socket.destroy(), withinMs * slowness);
  socket.write(bytes);
  await new Promise((resolve) => socket.on('close', resolve));
  clearTimeout(late);
  return got;
}

/** The answer to a valid request, with its status. @throws Error where none comes in time */
export async function ask(address: Address, path: string, withinMs = ANSWER_MS): Promise<string> {
  const request = `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`;
  const answer = await exchange(address, Buffer.from(request), withinMs);
  if (!/^HTTP\/1\.1 \d{3} /.test(answer))
    throw new Error(`${path}: no answer (${JSON.stringify(answer.slice(0, 100))})`);
  return answer;
}

const PATHS = [
  '/metrics',
  '/healthz',
  '/readyz',
  '/',
  '*',
  '//',
  '/metrics/../..',
  '/%00',
  '/?a=b',
  'http://x/metrics',
];
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'OPTIONS', 'CONNECT', 'TRACE', 'PRI', 'get', 'DANCE', ''];
/** One line, as bytes; line breaks are left to the raw bytes. */
const oneLine = word.map((text) => text.replaceAll(/[\r\n\0]/g, ''));
const headerLine = fc.oneof(
  fc.tuple(oneLine, oneLine).map(([name, given]) => `${name}: ${given}`),
  fc.constantFrom(
    ...[
      'Content-Length: 5',
      'Content-Length: -1',
      'Content-Length: 99999999999999999999',
      'Content-Length: 1, 2',
    ],
    ...['Transfer-Encoding: chunked', 'Transfer-Encoding: dance', 'Expect: 100-continue', 'Expect: dance'],
    ...[
      'Upgrade: websocket',
      'Upgrade: h2c',
      'Connection: upgrade',
      'Connection: keep-alive',
      'Range: bytes=9-1',
    ],
    `X: ${'y'.repeat(20_000)}`,
  ),
);
const body = fc.oneof(fc.constantFrom('', 'zz\r\n', '5\r\nabcde\r\n0\r\n\r\n', '{"a":'), oneLine);

const requestTo = (host: string): fc.Arbitrary<Buffer> =>
  fc
    .record({
      method: fc.oneof(fc.constantFrom(...METHODS), oneLine),
      path: fc.oneof(fc.constantFrom(...PATHS), fc.webPath(), oneLine),
      version: fc.oneof(
        { weight: 6, arbitrary: fc.constant('HTTP/1.1') },
        fc.constantFrom('HTTP/1.0', 'HTTP/9.9', ''),
      ),
      headers: fc.array(headerLine, { maxLength: 5 }),
      body,
      half: fc.option(fc.nat(200)),
    })
    .map(({ method, path, version, headers, body: rest, half }) => {
      const lines = [
        `${method} ${path} ${version}`,
        `Host: ${host}`,
        'Connection: close',
        ...headers,
        '',
        rest,
      ];
      const whole = Buffer.from(lines.join('\r\n'));
      return half === null ? whole : whole.subarray(0, half);
    });

/** @throws Error for an answer that shows a fault of the server */
function judge(answer: string): void {
  const code = /^HTTP\/1\.1 (\d{3})/.exec(answer)?.[1];
  if (code === '500') throw new Error(`it answers 500: ${answer.slice(0, 500)}`);
  const [, body = ''] = answer.split('\r\n\r\n');
  if (code === undefined || body === '' || code === '200') return;
  const why = unclear(body);
  if (why !== undefined) throw new Error(`${why}: ${body.slice(0, 500)}`);
}

/** Sends requests and partial requests; does not wait long for an answer to a partial one. @param host as the server's header has it */
export async function attackHttp(address: Address, runs: number, host = 'x'): Promise<void> {
  const lookMs = 60;
  await fc.assert(
    fc.asyncProperty(requestTo(host), async (bytes) => judge(await exchange(address, bytes, lookMs))),
    { numRuns: runs, includeErrorInReport: true },
  );
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 500 }), (bytes) => throwBytes(address, Buffer.from(bytes))),
    { numRuns: runs },
  );
}

/** Holds so many connections with a partial request, a byte now and then; `meanwhile` must succeed all the same. */
export async function holdConnections(
  address: Address,
  count: number,
  words: string,
  meanwhile: () => Promise<void>,
): Promise<void> {
  const sockets: Socket[] = Array.from({ length: count }, () => openSocket(address));
  for (const socket of sockets) {
    socket.on('error', () => undefined);
    socket.write(words);
  }
  const trickle = setInterval(() => {
    for (const socket of sockets) if (socket.writable) socket.write('x');
  }, 100);
  try {
    for (let i = 0; i < 3; i++) await meanwhile();
  } finally {
    clearInterval(trickle);
    for (const socket of sockets) socket.destroy();
  }
}

export const SLOW_HTTP = 'GET /metrics HTTP/1.1\r\nX-Slow: ';

/** Runs all attacks, and gets the server's own pages before, during and after. @throws Error with the first failure */
export async function attackPages(address: Address, runs: number): Promise<void> {
  const serves = async (): Promise<void> => {
    if (!(await ask(address, '/healthz')).includes('200 OK')) throw new Error('/healthz is not 200');
    if (!(await ask(address, '/metrics')).includes('# HELP')) throw new Error('/metrics has no metrics');
  };
  await serves();
  await attackHttp(address, runs);
  await serves();
  await holdConnections(address, 200, SLOW_HTTP, serves);
  await serves();
}
