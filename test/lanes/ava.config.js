// ava's configuration in lanes: that of package.json, the run's events for the process that started it, and one folder for
// temporary files, which a test that is killed cannot remove itself.
import { readFileSync } from 'node:fs';
import { basename, relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';

import { claimRun, newRun, removeRun } from '../../build/test/lab/runs.js';

const root = new URL('../../', import.meta.url);
const { ava } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'));

/** Only what test/lanes/results.ts reads. */
function plain(event) {
  const file = event.testFile === undefined ? undefined : relative(root.pathname, event.testFile);
  const pending = [...(event.pendingTests ?? [])].flatMap(([, titles]) => [...titles]);
  const { type, title, skip, todo, err } = event;
  return { type, title, skip, todo, file, pending, ...(err === undefined ? {} : cause(err)) };
}

/** Of an error as ava sends it; an assertion has what was compared in `formattedDetails`. */
function cause({ message, formattedError, formattedDetails = [], source }) {
  const place = source === null || source === undefined ? [] : [`line ${source.line}`];
  const details = formattedDetails.flatMap(({ label, formatted }) => [label, formatted]);
  const why = stripVTControlCharacters([...place, message ?? formattedError, ...details].join('\n'));
  return { message, why };
}

const run = newRun();
const folder = claimRun(run);
process.on('exit', () => removeRun(run));

/** They wait for five seconds and more: begun last, they would be what everybody waits for. */
const LONG = [
  'grpc-front',
  'habits',
  'publisher',
  'reconciler',
  'errors',
  'answers',
  'peers',
  'call-bounds',
  'shutdown',
];
const isLong = (file) => LONG.includes(basename(file).replace(/\.test\.[jt]s$/, ''));

export default {
  ...ava,
  // A worker mostly loads modules and ends: what little it then runs is optimized later, by a factor of fifteen. Later versions
  // do not know the option, and have a faster compiler for such code.
  nodeArguments: process.versions.node.startsWith('20.') ? ['--interrupt-budget=1000000'] : [],
  sortTestFiles: (a, b) => Number(isLong(b)) - Number(isLong(a)),
  environmentVariables: { ...ava.environmentVariables, TMPDIR: folder },
  nonSemVerExperiments: { observeRunsFromConfig: true },
  async observeRun({ events }) {
    for await (const event of events)
      if (!['stats', 'worker-stdout', 'worker-stderr'].includes(event.type)) process.send?.(plain(event));
  },
};
