// Mutexes: one piece of work at a time for each key, in order.
import { setImmediate as turn } from 'node:timers/promises';

import test from 'ava';

import { KeyedMutex, Mutex } from '../../core/keyed-mutex.js';

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
