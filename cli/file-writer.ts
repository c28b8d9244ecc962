// Writes a file of a command, or to standard output.
import { once } from 'node:events';
import { closeSync, openSync, writeSync } from 'node:fs';

import { failedPrecondition, invalidArgument, messageOf } from '../core/errors.js';

export interface FileWriter {
  write(bytes: Buffer): Promise<void>;
  close(): void;
}

/** Only its owner reads it. */
const PRIVATE = 0o600;
/** As the caller's umask has it. */
export const PUBLIC = 0o666;

/** @param path `-`: standard output @param option that gave it @throws WeftError before anything is asked */
export function openFile(path: string, option = '-w', mode = PRIVATE): FileWriter {
  if (path === '-') {
    if (process.stdout.isTTY)
      throw invalidArgument(
        `${option} -: a terminal cannot show this`,
        'Give a file, or lead it into a program.',
      );
    return {
      write: async (bytes) => {
        if (!process.stdout.write(bytes)) await once(process.stdout, 'drain');
      },
      close: () => undefined,
    };
  }
  try {
    const fd = openSync(path, 'w', mode);
    return {
      write: (bytes) => {
        writeSync(fd, bytes);
        return Promise.resolve();
      },
      close: () => closeSync(fd),
    };
  } catch (error) {
    throw failedPrecondition(
      `${path}: cannot be written: ${messageOf(error)}`,
      `Give another file with ${option}.`,
    );
  }
}
