// What a run of lanes says at its end: lanes and times, what was not run, what failed, what is flaky, the count.
import type { Job } from './jobs.js';
import type { Outcome } from './process.js';
import { sum } from './results.js';
import type { Lane } from './table.js';

/** A lane that this machine cannot run. */
export interface Skipped {
  lane: Lane;
  why: string;
}

/** Files that failed and ran once more, alone: the second run is the one that counts. */
export interface SecondRuns {
  outcomes: ReadonlyMap<Job, Outcome>;
  /** Where the outputs of both runs are. */
  outputs: (job: Job) => readonly string[];
}

export const NO_SECOND_RUNS: SecondRuns = { outcomes: new Map(), outputs: () => [] };

export interface Report {
  first: readonly Outcome[];
  second: SecondRuns;
  notRun: readonly Skipped[];
  /** The whole run, in milliseconds. */
  took: number;
}

/** The last line is the count, which other programs read. */
export function reportLines({ first, second, notRun, took }: Report): string[] {
  const counted = first.map((outcome) => second.outcomes.get(outcome.job) ?? outcome);
  const all = sum(counted.map(({ result }) => result));
  const twice = first.filter(({ job }) => second.outcomes.has(job));
  const passedThen = ({ job }: Outcome): boolean => second.outcomes.get(job)?.result.failures.length === 0;
  const outputs = ({ job }: Outcome): string => `${job.name}: ${second.outputs(job).join(' ')}`;
  return [
    ...['', ...table(first, took)],
    ...section('Not run on this machine:', [
      ...notRun.map(({ lane, why }) => `${lane.name} (${lane.about}): ${why}`),
      ...all.skipped,
    ]),
    ...section('Failed:', all.failures),
    ...section('Failed again when run alone:', twice.filter((outcome) => !passedThen(outcome)).map(outputs)),
    ...section(
      'Flaky: failed, then passed alone. The next change mends it:',
      twice
        .filter(passedThen)
        .flatMap((outcome) => [outputs(outcome), ...outcome.result.failures.flatMap(indented)]),
    ),
    ...['', `${all.passed} passed, ${all.failures.length} failed`],
  ];
}

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', title, ...lines.flatMap(indented)];

const indented = (text: string): string[] => text.split('\n').map((line) => `  ${line}`);

const HEAD = ['lane', 'passed', 'failed', 'time', 'work'] as const;

/** `time` is from a lane's first test to its last; `work` is the sum over its jobs, which run side by side. */
function table(outcomes: readonly Outcome[], took: number): string[] {
  const lanes = [...new Set(outcomes.map(({ job }) => job.lane))];
  const rows = lanes.map((lane) => {
    const mine = outcomes.filter(({ job }) => job.lane === lane);
    const { passed, failures } = sum(mine.map(({ result }) => result));
    const time = Math.max(...mine.map(({ ended }) => ended)) - Math.min(...mine.map(({ began }) => began));
    const work = mine.reduce((total, { began, ended }) => total + ended - began, 0);
    return [lane.name, String(passed), String(failures.length), seconds(time), seconds(work)];
  });
  const lines: (readonly string[])[] = [HEAD, ...rows, ['all', '', '', seconds(took), '']];
  const widths = HEAD.map((_, column) => Math.max(...lines.map((cells) => cells[column]?.length ?? 0)));
  return lines.map(([lane = '', ...cells]) =>
    [lane.padEnd(widths[0] ?? 0), ...cells.map((cell, i) => cell.padStart(widths[i + 1] ?? 0))].join('  '),
  );
}

export const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
