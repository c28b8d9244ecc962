// What the tests of a file share: made before the first, and made anew after one that failed.
//
// A test that fails may leave a dead daemon, a network without state or a container in the way. Without new hosts every test
// behind it fails, too, and what is wrong is hard to see. After a success it costs nothing.
import type { TestFn } from 'ava';

/** For files whose tests need nothing of each other; `test` is the file's own. */
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
