// A whole run of fixtures: what failed runs once more in CI, and what is cut off is gone.
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import { until } from '../lab/wait.js';

const RUN = join(dirname(fileURLToPath(import.meta.url)), 'fixtures/run.js');

/** Of the fixture that fails once. */
const WHY = ['line 11', 'this is the first time', 'Value is not `true`:', 'false'];

interface Started {
  child: ChildProcess;
  ended: Promise<{ code: number | null; lines: string[] }>;
  /** What the fixtures write, and the outputs that are kept. */
  folder: string;
  mark: string;
}

function start(t: ExecutionContext, fixtures: string[], env: Record<string, string> = {}): Started {
  const folder = mkdtempSync(join(tmpdir(), 'weft-lanes-'));
  const mark = join(folder, 'mark');
  const child = spawn(process.execPath, [RUN, ...fixtures], {
    env: { ...process.env, CI: 'false', WEFT_FIXTURE_MARK: mark, WEFT_FIXTURE_OUTPUTS: folder, ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  t.teardown(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
  let said = '';
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text));
  const ended = new Promise<Awaited<Started['ended']>>((resolve) =>
    child.once('close', (code) => resolve({ code, lines: said.trimEnd().split('\n') })),
  );
  return { child, ended, folder, mark };
}

const isRunning = (pid: number): boolean => {
  try {
    return !/\) Z/.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
};

test('in CI a file that failed runs once more: green, flaky, with both outputs', async (t) => {
  const { ended, folder } = start(t, ['fails-once', 'passes'], { CI: 'true' });
  const { code, lines } = await ended;
  t.is(code, 0, lines.join('\n'));
  const [first, second] = ['docker-fails-once.log', 'docker-fails-once-again.log'].map((name) =>
    join(folder, name),
  ) as [string, string];
  t.deepEqual(lines.slice(-12), [
    'Not run on this machine:',
    '  test/lanes/fixtures/passes.test.ts: needs another machine',
    '',
    'Flaky: failed, then passed alone. The next change mends it:',
    `  docker/fails-once: ${first} ${second}`,
    '    test/lanes/fixtures/fails-once.test.ts: passes the second time',
    ...WHY.map((line) => `      ${line}`),
    '',
    '3 passed, 0 failed',
  ]);
  t.regex(readFileSync(first, 'utf8'), /this is the first time/);
  t.regex(readFileSync(second, 'utf8'), /2 tests passed/);
});

test('elsewhere it failed', async (t) => {
  const { code, lines } = await start(t, ['fails-once', 'passes']).ended;
  t.is(code, 1);
  t.deepEqual(lines.slice(-8), [
    'Failed:',
    '  test/lanes/fixtures/fails-once.test.ts: passes the second time',
    ...WHY.map((line) => `    ${line}`),
    '',
    '2 passed, 1 failed',
  ]);
});

test('cut off: what runs may clean up, and then nothing of it is left', async (t) => {
  const { child, ended, mark } = start(t, ['hangs', 'passes']);
  await until('it hangs', () => existsSync(mark));
  child.kill('SIGINT');
  const { code, lines } = await ended;
  t.is(code, 1);
  t.true(existsSync(`${mark}.ended`));
  t.true(lines.some((line) => line.startsWith('── docker/hangs: 0 passed, 1 failed, cut off')));
  t.false(isRunning(Number(readFileSync(mark, 'utf8'))));
});

test('cut off twice: what does not end is ended at once', async (t) => {
  const { child, ended, mark } = start(t, ['hangs'], { WEFT_FIXTURE_SLOW: '1' });
  await until('it hangs', () => existsSync(mark));
  child.kill('SIGINT');
  await until('it was asked', () => existsSync(`${mark}.ended`));
  const began = performance.now();
  child.kill('SIGINT');
  await ended;
  t.true(performance.now() - began < 10_000);
  t.false(isRunning(Number(readFileSync(mark, 'utf8'))));
});
