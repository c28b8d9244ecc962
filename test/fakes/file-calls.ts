// Counts the fs calls that change files, and makes them fail.
import fs from 'node:fs';

import type { FileCalls } from '../../daemon/state-file.js';

/** The calls of fs, counted by name. @param failing throws instead */
export function countedCalls(failing: Partial<FileCalls> = {}): FileCalls & { seen: string[] } {
  const seen: string[] = [];
  const count =
    <A extends unknown[], R>(name: string, call: (...args: A) => R) =>
    (...args: A): R => {
      seen.push(name);
      return call(...args);
    };
  return {
    openSync: count('open', fs.openSync),
    writeFileSync: count('write', fs.writeFileSync),
    fsyncSync: count('fsync', fs.fsyncSync),
    closeSync: count('close', fs.closeSync),
    renameSync: count('rename', fs.renameSync),
    unlinkSync: count('unlink', fs.unlinkSync),
    ...failing,
    seen,
  };
}
