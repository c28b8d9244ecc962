// The demo as users run it: what `--keep` prints works as printed, and nothing is left behind.
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

import test from 'ava';

import { exec } from '../lab/exec.js';
import { CHECKOUT } from '../lab/lab.js';
import { folderOf, namespacesOf, newRun, removeRun } from '../lab/runs.js';

/** Where weft writes if nobody names a folder. */
const USUAL = ['/etc/weft', '/var/lib/weft', '/run/weft', join(homedir(), '.config/weft')];

const filesThere = (): string[] =>
  USUAL.filter((folder) => existsSync(folder)).flatMap((folder) =>
    readdirSync(folder, { recursive: true }).map((name) => join(folder, String(name))),
  );

test('npm run demo -- --keep: each line that it prints works; --down removes everything', async (t) => {
  const run = newRun();
  t.teardown(() => removeRun(run));
  // A variable of a developer's shell must not matter.
  const env = { WEFT_DEMO_RUN: run, WEFT_INSECURE: '' };
  const before = filesThere();
  const demo = join(CHECKOUT, 'build/test/demo/main.js');
  const kept = await exec([process.execPath, demo, '--keep'], { env, timeoutMs: 60_000 });
  t.is(kept.code, 0, kept.stdout + kept.stderr);
  const lines = (kept.stdout.split('The hosts stay up. Try')[1] ?? '')
    .split('\n')
    .slice(2)
    .map((line) => line.trim())
    .filter((line) => line !== '');
  t.true(lines.length > 8, lines.join('\n'));
  t.is(lines.at(-1), `WEFT_DEMO_RUN=${run} npm run demo -- --down`);
  for (const line of lines.slice(0, -1)) {
    const { code, stdout, stderr } = await exec(['bash', '-c', line], { env });
    t.is(code, 0, `${line}\n${stdout}${stderr}`);
  }
  // Without the preparation, which others may be at.
  const down = await exec([process.execPath, demo, '--down'], { env });
  t.is(down.code, 0, down.stderr);
  t.deepEqual([namespacesOf(run), existsSync(folderOf(run))], [[], false]);
  t.deepEqual(filesThere(), before);
});
