// The alert rules: each fires where it should, and not where it should not.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import test from 'ava';

import { CHECKOUT } from '../lab/lab.js';

const FOLDER = join(CHECKOUT, 'deploy/prometheus');
const promtool = (...args: string[]): { status: number | null; output: string } => {
  const program = join(CHECKOUT, 'node_modules/.cache/weft-prometheus/promtool');
  const { status, stdout, stderr } = spawnSync(program, args, { cwd: FOLDER, encoding: 'utf8' });
  return { status, output: `${stdout}${stderr}` };
};

test('promtool takes the rules, and their tests pass', (t) => {
  for (const args of [
    ['check', 'rules', 'weft.rules.yml'],
    ['test', 'rules', 'weft.rules.test.yml'],
  ]) {
    const { status, output } = promtool(...args);
    t.is(status, 0, output);
  }
});

test('every rule has a test in which it fires, and one in which it does not', (t) => {
  const read = (name: string): string => readFileSync(join(FOLDER, name), 'utf8');
  const rules = [...read('weft.rules.yml').matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const tests = read('weft.rules.test.yml');
  t.true(rules.length >= 10);
  for (const name of rules) {
    t.regex(tests, new RegExp(`alertname: ${name}\\n +exp_alerts:\\n`), name);
    t.regex(tests, new RegExp(`alertname: ${name}\\n +exp_alerts: \\[\\]`), name);
  }
});
