// ava's configuration in lanes: that of package.json, and the run's events for the process that started it.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

const root = new URL('../../', import.meta.url);
const { ava } = JSON.parse(readFileSync(new URL('package.json', root), 'utf8'));

/** Only what test/lanes/results.ts reads. */
function plain(event) {
  const file = event.testFile === undefined ? undefined : relative(root.pathname, event.testFile);
  const pending = [...(event.pendingTests ?? [])].flatMap(([, titles]) => [...titles]);
  const { type, title, skip, todo, err } = event;
  return { type, title, skip, todo, file, pending, message: err?.message };
}

export default {
  ...ava,
  nonSemVerExperiments: { observeRunsFromConfig: true },
  async observeRun({ events }) {
    for await (const event of events)
      if (!['stats', 'worker-stdout', 'worker-stderr'].includes(event.type)) process.send?.(plain(event));
  },
};
