// Backoff: growing delays up to a limit, with jitter, reset by success.
import test from 'ava';
import fc from 'fast-check';

import { Backoff, backoffDelay } from '../../core/backoff.js';

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
