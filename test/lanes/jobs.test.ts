// Which jobs a run has, what may run side by side, what runs again, and what the report says of it.
import test from 'ava';

import { jobsOf, nextJob, runAgain, type Job } from './jobs.js';
import type { Outcome } from './process.js';
import { NO_SECOND_RUNS, reportLines } from './report.js';
import { Count, type Result } from './results.js';
import type { Lane } from './table.js';

const lane = (name: Lane['name'], more: Partial<Lane> = {}): Lane => ({
  ...{
    name,
    about: `the ${name} lane`,
    files: [],
    ava: 'per file',
    concurrency: 2,
    timeout: '1m',
    needs: [],
  },
  load: 0.5,
  ...more,
});
const job = (of: Lane, name = of.name): Job => ({ lane: of, name, files: [], options: [] });
const outcome = (of: Job, result: Partial<Result> = {}, ended = 1000): Outcome => ({
  ...{ job: of, output: '', began: 0, ended },
  result: { passed: 0, failures: [], skipped: [], ...result },
});

test('jobs: one for each file of a whole program, one for a lane of the parts', (t) => {
  const files = ['test/docker/a.test.ts', 'test/docker/b.test.ts:12'];
  t.deepEqual(
    jobsOf(lane('docker'), files).map((one) => [one.name, one.files]),
    [
      ['docker/a', files.slice(0, 1)],
      ['docker/b', files.slice(1)],
    ],
  );
  t.deepEqual(
    jobsOf(lane('unit', { ava: 'once' }), files).map((one) => [one.name, one.files]),
    [['unit', files]],
  );
  // A file without a test of that name would fail by itself.
  t.is(jobsOf(lane('docker'), files, ['--match', 'x*']).length, 1);
  t.deepEqual(jobsOf(lane('docker'), []), []);
  t.deepEqual(
    jobsOf(lane('check', { commands: { lint: ['npm', 'run', 'lint'] } }), []).map((one) => one.name),
    ['check/lint'],
  );
});

test('side by side: as the cores and the lane allow, in the order of the queue', (t) => {
  const [unit, docker, vm] = [lane('unit', { load: 2 }), lane('docker'), lane('vm', { load: 2 })];
  const queue = [job(unit), job(docker, 'docker'), job(vm)];
  t.is(nextJob(queue, [], 2)?.lane, unit);
  t.is(nextJob(queue, [job(unit)], 2), undefined, 'it fills the cores');
  t.is(nextJob([job(lane('store', { load: 0.4 }))], [job(unit)], 2)?.name, 'store', 'and a fifth more');
  t.is(nextJob(queue, [job(unit)], 4)?.lane, unit);
  t.is(nextJob(queue, [job(docker)], 2)?.lane, docker, 'what does not fit waits');
  t.is(nextJob(queue, [job(docker), job(docker)], 2), undefined, 'two of a lane');
  t.is(nextJob(queue, [job(docker), job(docker)], 4)?.lane, unit);
  t.is(nextJob([job(vm)], [], 1)?.lane, vm, 'one always may');
});

test('what must be alone is alone', (t) => {
  const [crowds, docker] = [lane('crowds', { alone: true }), lane('docker')];
  t.is(nextJob([job(crowds), job(docker)], [job(docker)], 8)?.lane, docker);
  t.is(nextJob([job(docker)], [job(crowds)], 8), undefined);
  t.is(nextJob([job(crowds)], [], 8)?.lane, crowds);
});

test('run again: up to two files, of lanes that allow it', (t) => {
  const [docker, unit] = [lane('docker', { again: true }), lane('unit')];
  const failed = { failures: ['x'] };
  const [a, b, c] = [job(docker), job(docker), job(docker)];
  t.deepEqual(runAgain([outcome(a, failed), outcome(b), outcome(job(unit), failed)]), [a]);
  t.deepEqual(runAgain([outcome(a, failed), outcome(b, failed)]), [a, b]);
  t.deepEqual(runAgain([outcome(a, failed), outcome(b, failed), outcome(c, failed)]), []);
});

test('the count: tests, hooks and crashes; what was skipped; what ended silently', (t) => {
  const count = new Count('docker/a');
  const file = 'a.test.ts';
  for (const event of [
    { type: 'selected-test', title: 'one', skip: false, file },
    { type: 'test-passed', title: 'one', file },
    { type: 'selected-test', title: 'two', skip: true, file },
    {
      type: 'test-failed',
      title: 'three',
      file,
      why: `not so\n\n${'x'.repeat(300)}\n${'more\n'.repeat(20)}`,
    },
    { type: 'hook-failed', title: 'after', file },
    { type: 'uncaught-exception', message: 'boom', file },
    { type: 'timeout', pending: ['four'] },
    { type: 'worker-finished', file },
  ])
    count.add(event);
  t.deepEqual(count.end('ended with status 1'), {
    passed: 1,
    failures: [
      [
        'a.test.ts: three',
        '  not so',
        `  ${'x'.repeat(200)}`,
        ...Array<string>(13).fill('  more'),
        '  … 7 lines more',
      ].join('\n'),
      'a.test.ts: after',
      'a.test.ts: boom',
      'docker/a: four (timed out)',
    ],
    skipped: ['a.test.ts: two'],
  });
  t.deepEqual(new Count('docker/a').end('ended with SIGKILL').failures, ['docker/a: ended with SIGKILL']);
});

test('the report: lanes and times, what was not run, what failed, and the count last', (t) => {
  const [unit, docker] = [lane('unit'), lane('docker')];
  const lines = reportLines({
    first: [
      outcome(job(unit), { passed: 120, skipped: ['a.test.ts: needs IPv6'] }),
      outcome(job(docker), { passed: 2, failures: ['b.test.ts: ports\n  no answer'] }, 65_400),
      outcome(job(docker), { passed: 1 }, 30_000),
    ],
    second: NO_SECOND_RUNS,
    notRun: [{ lane: lane('vm'), why: 'there is no qemu' }],
    took: 70_000,
  });
  t.deepEqual(lines, [
    '',
    'lane    passed  failed  time  work',
    'unit       120       0   1 s   1 s',
    'docker       3       1  65 s  95 s',
    'all                     70 s      ',
    '',
    'Not run on this machine:',
    '  vm (the vm lane): there is no qemu',
    '  a.test.ts: needs IPv6',
    '',
    'Failed:',
    '  b.test.ts: ports',
    '    no answer',
    '',
    '123 passed, 1 failed',
  ]);
});

test('the report: of a file that ran again its second run counts, and both outputs are named', (t) => {
  const docker = lane('docker', { again: true });
  const [flaky, broken] = [job(docker, 'docker/a' as Lane['name']), job(docker, 'docker/b' as Lane['name'])];
  const lines = reportLines({
    first: [
      outcome(flaky, { passed: 1, failures: ['a.test.ts: x\n  too late'] }),
      outcome(broken, { failures: ['b.test.ts: y', 'b.test.ts: z'] }),
    ],
    second: {
      outcomes: new Map([
        [flaky, outcome(flaky, { passed: 2 })],
        [broken, outcome(broken, { passed: 1, failures: ['b.test.ts: y'] })],
      ]),
      outputs: ({ name }) => [`${name}.log`, `${name}-again.log`],
    },
    notRun: [],
    took: 1000,
  });
  t.deepEqual(lines.slice(4), [
    '',
    'Failed:',
    '  b.test.ts: y',
    '',
    'Failed again when run alone:',
    '  docker/b: docker/b.log docker/b-again.log',
    '',
    'Flaky: failed, then passed alone. The next change mends it:',
    '  docker/a: docker/a.log docker/a-again.log',
    '    a.test.ts: x',
    '      too late',
    '',
    '3 passed, 1 failed',
  ]);
});
