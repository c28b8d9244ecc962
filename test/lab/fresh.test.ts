// Shared hosts: made anew after a failure, and only where a test still needs them.
import test, { type ExecutionContext, type TestFn } from 'ava';

import { shareAmongTests } from './fresh.js';

type Hook = (t: Pick<ExecutionContext, 'passed'>) => unknown;

interface File {
  done: string[];
  /** One test of the file, with its hooks. */
  run: (passed: boolean) => Promise<void>;
  begin: () => Promise<void>;
  end: () => Promise<void>;
}

/** A test file as ava runs it, whose hosts write down what becomes of them. */
function file({ up = () => undefined, after }: { up?: () => void; after?: () => void } = {}): File {
  const done: string[] = [];
  const hooks: Record<string, Hook> = {};
  const keep = (name: string) => (hook: Hook) => void (hooks[name] = hook);
  const call = async (name: string, passed = false): Promise<void> => void (await hooks[name]?.({ passed }));
  shareAmongTests(
    {
      before: keep('before'),
      beforeEach: keep('beforeEach'),
      afterEach: { always: keep('afterEach') },
      after: { always: keep('after') },
    } as unknown as TestFn,
    async () => {
      done.push('up');
      up();
    },
    async () => void done.push('down'),
    after,
  );
  const run = async (passed: boolean): Promise<void> => {
    let ready = false;
    try {
      await call('beforeEach');
      ready = true;
      done.push(passed ? 'passes' : 'fails');
    } finally {
      await call('afterEach', ready && passed);
    }
  };
  return { done, run, begin: () => call('before'), end: () => call('after') };
}

test('after a failure the next test has new hosts, after a success the same', async (t) => {
  const { done, run, begin, end } = file();
  await begin();
  for (const passed of [true, true, false, true, false]) await run(passed);
  await end();
  t.deepEqual(done, [
    ...['up', 'passes', 'passes', 'fails', 'down'],
    // None are made after the last test.
    ...['up', 'passes', 'fails', 'down', 'down'],
  ]);
});

test('what does not hold after a test is a failure, too', async (t) => {
  let sound = false;
  const { done, run, begin } = file({
    after: () => {
      if (!sound) throw new Error('the agent has ended');
    },
  });
  await begin();
  await t.throwsAsync(run(true), { message: 'the agent has ended' });
  sound = true;
  await run(true);
  t.deepEqual(done, ['up', 'passes', 'down', 'up', 'passes']);
});

test('hosts that could not be made are tried again for the next test', async (t) => {
  let works = true;
  const { done, run, begin } = file({
    up: () => {
      if (!works) throw new Error('no hosts');
    },
  });
  await begin();
  await run(false);
  works = false;
  await t.throwsAsync(run(true), { message: 'no hosts' });
  works = true;
  await run(true);
  t.deepEqual(done, ['up', 'fails', 'down', 'up', 'down', 'up', 'passes']);
});
