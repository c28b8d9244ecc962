// Backoff, deadlines and mutexes.
import { setImmediate as turn } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import test from 'ava';
import fc from 'fast-check';

import { Backoff, backoffDelay } from '../../core/backoff.js';
import { withDeadline } from '../../core/deadline.js';
import { KeyedMutex, Mutex } from '../../core/keyed-mutex.js';

// Backoff: growing delays up to a limit, with jitter, reset by success.

test('delays double up to the limit, and start over after a success', (t) => {
  const backoff = new Backoff({ firstMs: 200, lastMs: 2000 });
  const five = (): number[] => Array.from({ length: 5 }, () => backoff.next());
  t.deepEqual(five(), [200, 400, 800, 1600, 2000]);
  t.deepEqual(five(), [2000, 2000, 2000, 2000, 2000]);
  backoff.reset();
  t.is(backoff.delayMs, 200);
  t.is(backoff.delayMs, 200, 'reading it is no failure');
  t.deepEqual(five(), [200, 400, 800, 1600, 2000]);
});

test('delays grow by another factor, or not at all', (t) => {
  t.is(backoffDelay({ firstMs: 10, lastMs: 1000, factor: 3 }, 2), 90);
  t.is(backoffDelay({ firstMs: 10, lastMs: 1000, factor: 1 }, 7), 10);
});

test('jitter spreads a delay between its bounds', (t) => {
  const figures = { firstMs: 100, lastMs: 600, jitter: { from: 0.5, to: 1.5 } };
  t.is(
    backoffDelay(figures, 0, () => 0),
    50,
  );
  t.is(
    backoffDelay(figures, 0, () => 0.5),
    100,
  );
  t.is(new Backoff(figures, () => 0.25).next(), 75);
});

test('no delay exceeds its bounds, after any number of failures', (t) => {
  const figures = fc.record({
    firstMs: fc.integer({ min: 1, max: 10_000 }),
    lastMs: fc.integer({ min: 10_000, max: 100_000 }),
    factor: fc.double({ min: 1, max: 10, noNaN: true }),
  });
  fc.assert(
    fc.property(figures, fc.nat(5000), (given, failures) => {
      const delay = backoffDelay(given, failures);
      t.true(delay >= given.firstMs && delay <= given.lastMs);
      t.true(backoffDelay(given, failures + 1) >= delay);
    }),
  );
});

// A deadline comes whatever is collected meanwhile, and so does the caller's own end.

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

/** Waits for the signal as the store does: by a listener alone. */
const ended = (signal: AbortSignal): Promise<never> =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    if (signal.aborted) reject(signal.reason as Error);
  });

test('the time is over although garbage was collected', async (t) => {
  const { signal } = new AbortController();
  const waiting = t.throwsAsync(withDeadline(signal, 200, ended), { message: 'no answer within 0.2 s' });
  await new Promise((resolve) => setTimeout(resolve, 50));
  collect();
  await waiting;
});

test('the caller ends it, before or meanwhile', async (t) => {
  const controller = new AbortController();
  const waiting = t.throwsAsync(withDeadline(controller.signal, 60_000, ended), { message: 'given up' });
  controller.abort(new Error('given up'));
  await waiting;
  await t.throwsAsync(withDeadline(controller.signal, 60_000, ended), { message: 'given up' });
});

test('an answer in time is the answer', async (t) => {
  t.is(await withDeadline(new AbortController().signal, 60_000, () => Promise.resolve(7)), 7);
});

// Mutexes: one piece of work at a time for each key, in order.

test('work under one key runs in order, one at a time; under another it does not wait', async (t) => {
  const mutex = new KeyedMutex();
  const seen: string[] = [];
  const work = (name: string) => async (): Promise<string> => {
    seen.push(`${name} begins`);
    await turn();
    seen.push(`${name} ends`);
    return name;
  };
  const all = [mutex.run('a', work('1')), mutex.run('a', work('2')), mutex.run('b', work('3'))];
  t.deepEqual(await Promise.all(all), ['1', '2', '3']);
  t.deepEqual(seen, ['1 begins', '3 begins', '1 ends', '2 begins', '3 ends', '2 ends']);
});

test('failed work does not block the queue, and idle waits for all work', async (t) => {
  const mutex = new Mutex();
  const failed = mutex.run(async () => {
    await turn();
    throw new Error('no');
  });
  let ran = false;
  void mutex.run(async () => {
    await turn();
    ran = true;
  });
  await t.throwsAsync(failed, { message: 'no' });
  t.false(ran);
  await mutex.idle();
  t.true(ran);
});
