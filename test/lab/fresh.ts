// The fixture of a test file: created before the first test, and again after a failure.
//
// A failed test may leave a dead daemon, a network without state or a container in the way. Without new hosts every later test
// would fail, too, and hide the cause. After a success it costs nothing, and after the last test neither.
import type { ExecutionContext, TestFn } from 'ava';

/**
 * For files whose tests do not depend on each other; `test` is the file's own. `after` is for what must hold, or be tidied, when
 * a test has passed: where it fails, the next test has a new fixture as well. As a hook of the file's own it would run at the
 * same time as `down`, or unseen by it.
 */
export function shareAmongTests(
  test: TestFn,
  up: () => Promise<void>,
  down: () => Promise<void>,
  after?: (t: ExecutionContext) => void | Promise<void>,
): void {
  let gone = false;
  const end = (): Promise<void> => {
    gone = true;
    return down();
  };
  test.before(up);
  test.beforeEach(async () => {
    if (!gone) return;
    await up();
    gone = false;
  });
  test.afterEach.always(async (t) => {
    if (!t.passed) return end();
    try {
      await after?.(t);
    } catch (error) {
      await end();
      throw error;
    }
  });
  test.after.always(down);
}
