// `weft logs` of a log that the agent rotates meanwhile: nothing is lost or repeated.
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

test('output from before the rotation comes first', async (t) => {
  const log = logIn(t);
  const before = lines(0, 20_000);
  writeFileSync(log, before);
  trimLog(log, MAX);
  t.is(await shown(log), before.slice(-MAX), 'also where nothing was written since');
  appendFileSync(log, 'and then it crashed\n');
  t.is(await shown(log), `${before.slice(-MAX)}and then it crashed\n`);
});

test('a log that was never rotated, an empty one, and an absent one', async (t) => {
  const log = logIn(t);
  await t.throwsAsync(shown(log), { message: /there is no log/ });
  writeFileSync(log, '');
  t.is(await shown(log), '');
  writeFileSync(log, lines(0, 9000));
  t.is(await shown(log), lines(0, 9000));
});

test('followed: lines between the last read and the rotation, and after it', async (t) => {
  const log = logIn(t);
  writeFileSync(log, lines(0, 5500));
  let written = 5500;
  let text = '';
  let more = true;
  const following = showLog(
    log,
    () => Promise.resolve(more),
    (bytes) => Promise.resolve(void (text += bytes.toString())),
  );
  const allShown = (): Promise<true> =>
    until('all is shown', () => text.length >= lines(0, written).length || undefined);
  const say = (count: number): void => {
    appendFileSync(log, lines(written, written + count));
    written += count;
  };
  await allShown();
  for (let times = 0; times < 3; times++) {
    say(7500);
    trimLog(log, MAX);
    // More than was shown before: the length alone does not reveal the rotation.
    say(5700);
    await allShown();
  }
  more = false;
  await following;
  t.true(text === lines(0, written), 'everything once, in its order');
});
