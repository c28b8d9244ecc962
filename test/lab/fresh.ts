// The fixture of a test file: created before the first test, and again after a failure.
//
// A failed test may leave a dead daemon, a network without state or a container in the way. Without new hosts every later test
// would fail, too, and hide the cause. After a success it costs nothing.
import type { TestFn } from 'ava';

/** For files whose tests do not depend on each other; `test` is the file's own. */
export function shareAmongTests(test: TestFn, up: () => Promise<void>, down: () => Promise<void>): void {
  test.before(up);
  test.afterEach.always(async (t) => {
    if (t.passed) return;
    try {
      await down();
    } finally {
      await up();
    }
  });
  test.after.always(down);
}
