// A folder that ends with its test.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new folder, removed with all that is in it when the test has ended. Its name begins with the prefix, for who finds it. */
export function temporaryFolder(t: { teardown: (remove: () => void) => void }, prefix: string): string {
  const path = mkdtempSync(join(tmpdir(), prefix));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}
