// A deadline comes whatever is collected meanwhile, and so does the caller's own end.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import test from 'ava';

import { withDeadline } from '../../core/deadline.js';

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
