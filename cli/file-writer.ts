// Writes a file of a command: to a file that only its owner reads, or to standard output.
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';

import { failedPrecondition, invalidArgument, messageOf } from '../core/errors.js';

export interface FileWriter {
  write(bytes: Buffer): Promise<void>;
  close(): void;
}

/** @param path `-`: standard output. @throws WeftError before anything is asked */
export function openFile(path: string): FileWriter {
  if (path === '-') {
    if (process.stdout.isTTY)
      throw invalidArgument('-w -: a terminal cannot show this', 'Give a file, or lead it into a program.');
    return {
      write: async (bytes) => {
        if (!process.stdout.write(bytes)) await once(process.stdout, 'drain');
      },
      close: () => undefined,
    };
  }
  try {
    const fd = openSync(path, 'w', 0o600);
    return {
      write: (bytes) => {
        writeSync(fd, bytes);
        return Promise.resolve();
      },
      close: () => closeSync(fd),
    };
  } catch (error) {
    throw failedPrecondition(`${path}: cannot be written: ${messageOf(error)}`, 'Give another file with -w.');
  }
}
