// Looks a command up in PATH before a container is made. Containers share the host's files.
import { accessSync, constants, statSync } from 'node:fs';
import { join } from 'node:path';

import { ExitError, NOT_EXECUTABLE, NOT_FOUND } from './exit.js';

/** The search path of execvp(3) where PATH is not set. */
const DEFAULT_PATH = '/bin:/usr/bin';

/** @throws ExitError 127 where the command does not exist, 126 where it cannot be executed */
export function checkCommand(word: string, path = process.env['PATH'] ?? DEFAULT_PATH): void {
  const candidates = word.includes('/')
    ? [word]
    : path.split(':').map((folder) => join(folder === '' ? '.' : folder, word));
  const there = candidates.filter(isThere);
  if (there.some(isExecutable)) return;
  if (there[0] === undefined) {
    throw new ExitError(
      'NOT_FOUND',
      NOT_FOUND,
      `${word}: there is no such command`,
      word.includes('/') ? 'Check its path.' : 'Give its path, or add its folder to PATH.',
    );
  }
  throw new ExitError(
    'FAILED_PRECONDITION',
    NOT_EXECUTABLE,
    `${there[0]} cannot be executed`,
    'Make it executable (chmod +x), or name the program that reads it first.',
  );
}

/** As execvp(3) sees it: a file that may not be read exists, a name that no file can have does not. */
function isThere(path: string): boolean {
  try {
    return statSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES';
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
