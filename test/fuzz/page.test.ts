// Garbage at the page's server: requests of any kind, and questions of who has the link. Each has a readable answer.
import test from 'ava';
import fc from 'fast-check';

import { hostPort } from '../../daemon/kinds.js';
import { PageServer, Source } from '../../daemon/page/index.js';
import { patience, times, unclear, value, word } from './garbage.js';
import { attackHttp } from './http-attack.js';

const listen = hostPort({ listen: true }).parse('127.0.0.1:0', 'test');
/** Nothing serves there, so a question that is right has an answer as well. */
const NOBODY = '127.0.0.1:1';

let page: PageServer;
let origin: string;

test.before(async () => {
  const source = new Source(() => ({ address: NOBODY, tls: undefined }));
  page = await PageServer.start({ listen, source, flag: '--listen' });
  ({ origin } = new URL(page.url));
});
test.after.always(() => page?.stop());

test.serial('methods, paths, headers, partial requests and bytes', async (t) => {
  t.timeout(patience(60));
  const { hostname: host, port } = new URL(origin);
  await attackHttp({ host, port: Number(port) }, times(150), `${host}:${port}`);
  t.is((await fetch(origin)).status, 403);
});

test.serial('questions', async (t) => {
  t.timeout(patience(60));
  const opened = await fetch(page.url, { redirect: 'manual' });
  const cookie = opened.headers.get('set-cookie')?.split(';')[0] ?? '';
  const name = fc.oneof(
    fc.constantFrom('trace', 'endpoint', 'ping', 'ipam', 'policies', 'events', 'live', 'toString'),
    word.map(encodeURIComponent),
  );
  const body = fc.oneof(
    word,
    value.map((it) => JSON.stringify(it) ?? ''),
    fc
      .dictionary(fc.constantFrom('from', 'to', 'id', 'node', 'peer', 'network', 'object', 'port'), value)
      .map((it) => JSON.stringify(it)),
  );
  await fc.assert(
    fc.asyncProperty(name, body, async (path, text) => {
      const answer = await fetch(`${origin}/api/${path}`, {
        method: 'POST',
        body: text,
        headers: { cookie, origin },
      });
      const words = await answer.text();
      if (answer.status >= 500 && answer.status !== 503) throw new Error(`${answer.status}: ${words}`);
      if (answer.headers.get('content-type') !== 'application/json') return;
      const { error } = JSON.parse(words) as { error: { message: string } };
      const why = unclear(error.message);
      if (why !== undefined) throw new Error(`${why}: ${words}`);
    }),
    { numRuns: times(150) },
  );
  t.is((await fetch(origin, { headers: { cookie } })).status, 200);
});
