// The program behind `npm test`: runs lanes, test files, or what a change needs, and ends with the count.
//   node build/test/lanes/main.js [LANE… | FILE…] [options of ava]
//   node build/test/lanes/main.js --list | --changed
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { sweep } from '../lab/runs.js';
import { readArguments, type Wanted } from './arguments.js';
import { choose, importsOf, type Choice } from './changed.js';
import { jobsOf, type Job } from './jobs.js';
import { Machine } from './needs.js';
import type { Skipped } from './report.js';
import { LaneRun, type LateJobs, type RunOptions } from './run.js';
import { changedPaths, sourceFiles, testFiles } from './sources.js';
import { filesOf, LANES } from './table.js';
import { newPlaces, usualPlaces } from './usual-places.js';

/** This file runs from build/test/lanes. */
const CHECKOUT = join(dirname(fileURLToPath(import.meta.url)), '../../..');

const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** With a status line, which every other line takes the place of. */
function output(live: boolean): Pick<RunOptions, 'print' | 'status'> {
  if (!live) return { print };
  const clear = '\r\x1b[K';
  return {
    print: (line) => print(`${clear}${line}`),
    status: (line) => void process.stdout.write(`${clear}${line.slice(0, process.stdout.columns - 1)}`),
  };
}

function showLanes(machine: Machine): void {
  for (const lane of LANES) {
    const why = machine.whyNot(lane);
    print(`${lane.name.padEnd(11)} ${lane.about}${why === undefined ? '' : ` (not here: ${why})`}`);
  }
}

/** Prints what was chosen. */
function wantedByChange(): Wanted {
  const { base, paths } = changedPaths(CHECKOUT);
  print(`Changed since ${base}: ${paths.length} files`);
  const choices = choose(paths, testFiles(CHECKOUT), importsOf(sourceFiles(CHECKOUT)));
  for (const { lane, files } of choices)
    print(`  ${lane.name.padEnd(8)} ${files === undefined ? 'all' : files.join(' ')}`);
  return {
    lanes: choices.map(({ lane, files }: Choice) => ({
      lane,
      ...(files === undefined ? {} : { files: [...files] }),
    })),
    avaOptions: [],
  };
}

async function main(args: readonly string[]): Promise<number> {
  // Nobody reads any more: as with programs that know SIGPIPE.
  process.stdout.once('error', () => process.kill(process.pid, 'SIGPIPE')).on('error', () => undefined);
  const machine = new Machine(CHECKOUT);
  if (args.includes('--list')) {
    showLanes(machine);
    return 0;
  }
  const { lanes, avaOptions } = args.includes('--changed') ? wantedByChange() : readArguments(args, CHECKOUT);
  if (lanes.length === 0) {
    print('Nothing changed: no lane is needed.');
    return 0;
  }
  const all = testFiles(CHECKOUT);
  const jobs: Job[] = [];
  const notRun: Skipped[] = [];
  const late: Wanted['lanes'][number][] = [];
  for (const wanted of lanes) {
    const { lane, files } = wanted;
    const why = machine.whyNot(lane);
    if (why === undefined) jobs.push(...jobsOf(lane, files ?? filesOf(lane, all), avaOptions));
    else if (lane.node === undefined) notRun.push({ lane, why });
    else late.push(wanted);
  }
  // Other versions of Node.js are fetched while the first jobs run: it takes a minute, and mostly waits.
  const fetching = new AbortController();
  const withNodes = async (): Promise<LateJobs> => {
    await machine.fetchNodes(fetching.signal);
    return {
      jobs: late.flatMap(({ lane, files }) =>
        machine.whyNot(lane) === undefined ? jobsOf(lane, files ?? filesOf(lane, all), avaOptions) : [],
      ),
      notRun: late.flatMap(({ lane }) => {
        const why = machine.whyNot(lane);
        return why === undefined ? [] : [{ lane, why }];
      }),
    };
  };
  const run = new LaneRun(jobs, {
    outputs: join(CHECKOUT, 'build/lanes'),
    ...{ checkout: CHECKOUT, cores: availableParallelism(), notRun },
    ...(late.length === 0 ? {} : { late: withNodes() }),
    again: process.env['CI'] === 'true',
    ...output(jobs.length > 1 && process.stdout.isTTY),
  });
  let code: number | undefined;
  for (const [signal, status] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
    ['SIGPIPE', 141],
  ] as const) {
    process.on(signal, () => {
      code ??= status;
      fetching.abort();
      void run.cutOff();
    });
  }
  sweepAndTell();
  const before = usualPlaces();
  const good = await run.all();
  sweepAndTell();
  const left = newPlaces(before);
  if (left.length > 0) process.stderr.write(`weft: a test left ${left.join(', ')}\n`);
  return code ?? (good && left.length === 0 ? 0 : 1);
}

/** Removes what killed runs left, of this and of earlier calls. */
function sweepAndTell(): void {
  if (process.getuid?.() !== 0) return;
  const swept = sweep();
  if (swept.length > 0) print(`removed what killed runs had left: ${swept.join(', ')}`);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`weft: ${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 2;
}
