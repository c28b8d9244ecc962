// Calls to a cloud: their rate, and what is tried again.
import test from 'ava';

import { Calls, send, Temporary } from '../../cloud/http.js';
import type { WeftError } from '../../core/errors.js';
import { serve, signalOf } from './server.js';

const backoff = { firstMs: 1, lastMs: 5 };

test('what passes is tried again, at most so many times, and ends with its last error', async (t) => {
  const calls = new Calls({ signal: signalOf(t), backoff, attempts: 3 });
  let attempts = 0;
  const answer = await calls.run(() => {
    if (++attempts < 3) throw new Temporary(new Error('busy'));
    return Promise.resolve('done');
  });
  t.is(answer, 'done');
  t.is(attempts, 3);
  const error = await t.throwsAsync(calls.run(() => Promise.reject(new Temporary(new Error('busy still')))));
  t.is(error?.message, 'busy still');
  t.false(error instanceof Temporary);
});

test('another error is no reason to try again', async (t) => {
  const calls = new Calls({ signal: signalOf(t), backoff });
  let attempts = 0;
  await t.throwsAsync(
    calls.run(() => {
      attempts++;
      return Promise.reject(new Error('forbidden'));
    }),
    { message: 'forbidden' },
  );
  t.is(attempts, 1);
});

test('one call at a time, and a pause between changes', async (t) => {
  const calls = new Calls({ signal: signalOf(t), backoff, paceMs: 40 });
  const began: number[] = [];
  let running = 0;
  let most = 0;
  const one = async (): Promise<void> => {
    began.push(performance.now());
    most = Math.max(most, ++running);
    await Promise.resolve();
    running--;
  };
  await Promise.all([1, 2, 3].map(() => calls.run(one, { changes: true })));
  t.is(most, 1);
  t.true((began[2] ?? 0) - (began[0] ?? 0) >= 75);
});

test('the end of the daemon ends the wait', async (t) => {
  const ending = new AbortController();
  const calls = new Calls({ signal: ending.signal, backoff: { firstMs: 60_000, lastMs: 60_000 } });
  const waiting = calls.run(() => Promise.reject(new Temporary(new Error('busy'))));
  setTimeout(() => ending.abort(new Error('SIGTERM')), 10);
  await t.throwsAsync(waiting, { message: 'SIGTERM' });
});

test('no answer: an error that names the call and the host', async (t) => {
  const signal = signalOf(t);
  const silent = await serve(t, () => undefined);
  const late = await t.throwsAsync<WeftError>(
    send({ what: 'ec2:CreateRoute', url: silent, timeoutMs: 50 }, signal),
  );
  t.is(late?.code, 'UNAVAILABLE');
  t.regex(
    late?.message ?? '',
    /^ec2:CreateRoute: 127\.0\.0\.1:\d+ does not answer: no answer within 0\.05 s/,
  );
  const refused = await t.throwsAsync<WeftError>(send({ what: 'x', url: 'http://127.0.0.1:1/' }, signal));
  t.regex(refused?.message ?? '', /127\.0\.0\.1:1 does not answer: /);
  t.regex(refused?.next ?? '', /region/);
});

test('a redirection is not followed: it could take credentials along', async (t) => {
  const target = await serve(t, (_request, response) => void response.end('secret'));
  const url = await serve(
    t,
    (_request, response) => void response.writeHead(302, { location: target }).end(),
  );
  await t.throwsAsync(send({ what: 'x', url }, signalOf(t)), { message: /does not answer/ });
});
