// Which words are commands, as in a shell: 127 not found, 126 not executable.
import test from 'ava';

import { ExitError } from '../../cli/exit.js';
import { checkCommand } from '../../cli/find-command.js';

const PATH = '/usr/bin:/bin:/etc/passwd';

/** The exit status for a word. */
function refusedWith(word: string): number | undefined {
  try {
    checkCommand(word, PATH);
    return undefined;
  } catch (error) {
    return error instanceof ExitError ? error.exitCode : -1;
  }
}

for (const [what, word, status] of [
  ['a name in PATH', 'sh', undefined],
  ['a path', '/bin/sh', undefined],
  ['a name that is nowhere', 'no-such-command', 127],
  ['a path to nothing', '/nonexistent/sh', 127],
  ['a path through a file', '/etc/passwd/sh', 127],
  ['longer than a file’s name may be', 'x'.repeat(300), 127],
  ['longer than a path may be', `/${'x/'.repeat(3000)}`, 127],
  ['a folder', '/etc', 126],
  ['a file that is no program', '/etc/passwd', 126],
] as const) {
  test(`${what}: ${status ?? 'found'}`, (t) => {
    t.is(refusedWith(word), status);
  });
}
