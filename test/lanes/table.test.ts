// The table of lanes: every test file is in exactly one, and package.json has a script for each.
import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import test from 'ava';

import { testFiles } from './sources.js';
import { filesOf, laneOf, LANES, lanesNamed } from './table.js';

const CHECKOUT = join(dirname(fileURLToPath(import.meta.url)), '../../..');
const { scripts } = JSON.parse(readFileSync(join(CHECKOUT, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};
const all = testFiles(CHECKOUT);
const own = LANES.filter(({ node }) => node === undefined);

test('every test file is in exactly one lane', (t) => {
  const wrong = all
    .map((file) => ({ file, lanes: own.filter((lane) => filesOf(lane, [file]).length > 0) }))
    .filter(({ lanes }) => lanes.length !== 1)
    .map(({ file, lanes }) => `${file}: ${lanes.map(({ name }) => name).join(' ')}`);
  t.deepEqual(wrong, []);
  t.true(all.length > 100);
});

test('every lane has something to run', (t) => {
  for (const lane of LANES) t.true(lane.commands !== undefined || filesOf(lane, all).length > 0, lane.name);
});

test('every lane has a script, which prepares what it needs', (t) => {
  for (const { name, needs } of own.filter((lane) => lane.name !== 'crowds')) {
    t.truthy(scripts[`test:${name}`], name);
    t.is(
      scripts[`pretest:${name}`],
      `bash scripts/prepare.sh ${needs.length === 0 ? '--build' : '--test'}`,
      name,
    );
  }
});

test('a file is found in its lane, and none outside', (t) => {
  t.is(laneOf('test/agent/dns/names.test.ts')?.name, 'unit');
  t.is(laneOf('test/fuzz/settings.test.ts')?.name, 'fuzz');
  t.is(laneOf('test/fuzz/controller.test.ts')?.name, 'store');
  t.is(laneOf('test/controller/main.test.ts')?.name, 'store');
  t.is(laneOf('test/cluster/basics.test.ts')?.name, 'cluster');
  t.is(laneOf('test/cluster/faults/etcd.test.ts')?.name, 'faults');
  t.is(laneOf('test/cluster/faults/crowds/races.test.ts')?.name, 'crowds');
  t.is(laneOf('test/lab/cluster.ts'), undefined);
  t.is(laneOf('core/plan.ts'), undefined);
});

test('the crowds are part of the faults', (t) => {
  t.deepEqual(
    lanesNamed('faults').map(({ name }) => name),
    ['faults', 'crowds'],
  );
  t.deepEqual(
    lanesNamed('unit').map(({ name }) => name),
    ['unit'],
  );
  t.deepEqual(lanesNamed('units'), []);
});
