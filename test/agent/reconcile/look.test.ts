// Looks: one at a time, none missed, none after the stop.
import { mock } from 'node:test';

import test from 'ava';

import { Look } from '../../../agent/reconcile/look.js';
import { silentLogger as log } from '../../../daemon/log.js';

const OPTIONS = { what: 'a test', everyMs: 10_000, settleMs: 1000, log };

/** Looks that last until the test ends them. */
function held() {
  const ends: (() => void)[] = [];
  const look = new Look(OPTIONS, () => new Promise((resolve) => ends.push(resolve)));
  return { look, ends };
}

test('what changes during a look is looked at by one more', async (t) => {
  const { look, ends } = held();
  const first = look.now();
  const later = [look.now(), look.now()];
  t.is(ends.length, 1);
  ends[0]?.();
  while (ends.length < 2) await Promise.resolve();
  ends[1]?.();
  await Promise.all([first, ...later]);
  t.is(ends.length, 2);
});

test('the stop waits for the look that runs, and none follows', async (t) => {
  const { look, ends } = held();
  void look.now();
  void look.now();
  let stopped = false;
  const stop = look.stop().then(() => (stopped = true));
  await new Promise(setImmediate);
  t.false(stopped);
  ends[0]?.();
  await stop;
  await look.now();
  t.is(ends.length, 1);
});

test.serial('it looks regularly, once for a burst, after a failure, and not after the stop', async (t) => {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  try {
    let times = 0;
    const look = new Look(OPTIONS, () => Promise.reject(new Error(`failure ${++times}`)));
    const passes = async (ms: number): Promise<number> => {
      mock.timers.tick(ms);
      await new Promise(setImmediate);
      return times;
    };
    await look.start();
    t.is(times, 1);
    look.soon();
    t.is(await passes(999), 1);
    look.soon();
    t.is(await passes(1), 2);
    t.is(await passes(9000), 3);
    look.soon();
    await look.stop();
    look.soon();
    t.is(await passes(60_000), 3);
  } finally {
    mock.timers.reset();
  }
});
