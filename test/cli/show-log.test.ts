// What `weft logs` prints of a log that the agent cuts meanwhile: nothing is left out, and nothing comes twice.
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import test, { type ExecutionContext } from 'ava';

import { trimLog } from '../../agent/runtime/container-log.js';
import { showLog } from '../../cli/show-log.js';
import { until } from '../lab/wait.js';

const MAX = 300_000;

function logIn(t: ExecutionContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'weft-log-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return join(folder, 'log');
}

/** Lines, each with its number. */
const lines = (from: number, to: number): string =>
  Array.from({ length: to - from }, (_, i) => `line ${from + i} of what it says\n`).join('');

const ended = (): Promise<boolean> => Promise.resolve(false);

async function shown(log: string): Promise<string> {
  let text = '';
  await showLog(log, ended, (bytes) => Promise.resolve(void (text += bytes.toString())));
  return text;
}

test('what was said before the log was cut comes first', async (t) => {
  const log = logIn(t);
  const before = lines(0, 20_000);
  writeFileSync(log, before);
  trimLog(log, MAX);
  t.is(await shown(log), before.slice(-MAX), 'also where nothing was said since');
  appendFileSync(log, 'and then it crashed\n');
  t.is(await shown(log), `${before.slice(-MAX)}and then it crashed\n`);
});

test('a log that was never cut, one that is empty, and one that is not there', async (t) => {
  const log = logIn(t);
  await t.throwsAsync(shown(log), { message: /there is no log/ });
  writeFileSync(log, '');
  t.is(await shown(log), '');
  writeFileSync(log, lines(0, 9000));
  t.is(await shown(log), lines(0, 9000));
});

test('followed: what came between the last look and the cut, and after it', async (t) => {
  const log = logIn(t);
  writeFileSync(log, lines(0, 5500));
  let said = 5500;
  let text = '';
  let more = true;
  const following = showLog(
    log,
    () => Promise.resolve(more),
    (bytes) => Promise.resolve(void (text += bytes.toString())),
  );
  const allShown = (): Promise<true> =>
    until('all is shown', () => text.length >= lines(0, said).length || undefined);
  const say = (count: number): void => {
    appendFileSync(log, lines(said, said + count));
    said += count;
  };
  await allShown();
  for (let times = 0; times < 3; times++) {
    say(7500);
    trimLog(log, MAX);
    // More than was shown before: its length alone does not tell that it was cut.
    say(5700);
    await allShown();
  }
  more = false;
  await following;
  t.true(text === lines(0, said), 'everything once, in its order');
});
