// Jobs: what a run of lanes consists of, in which order they begin, and which are run again.
import { basename } from 'node:path';

import type { Result } from './results.js';
import type { Lane } from './table.js';

/** One process: ava with files of a lane, or a command. */
export interface Job {
  lane: Lane;
  name: string;
  files: readonly string[];
  command?: readonly string[];
  /** Of ava, from the command line. */
  options: readonly string[];
}

/** @param options go to ava; with a choice of tests among them one ava has all files, or one without such a test fails */
export function jobsOf(lane: Lane, files: readonly string[], options: readonly string[] = []): Job[] {
  if (lane.commands !== undefined) {
    return Object.entries(lane.commands).map(([name, command]) => ({
      ...{ lane, command, files: [], options: [] },
      name: `${lane.name}/${name}`,
    }));
  }
  if (files.length === 0) return [];
  if (lane.ava === 'once' || options.length > 0) return [{ lane, name: lane.name, files, options }];
  return files.map((file) => ({
    ...{ lane, files: [file], options },
    name: `${lane.name}/${basename(file).replace(/\.test\.ts.*$/, '')}`,
  }));
}

/** Averages are promised, and not all lanes are at theirs at once: what waits for the cores makes use of them. */
const OVERCOMMIT = 1.2;

/**
 * The job to begin now, if any: the first in the queue that fits beside those that run. A lane's own limit holds, what must
 * be alone is alone, and the cores are promised but a little more than once; one job always may run.
 */
export function nextJob(queue: readonly Job[], running: readonly Job[], cores: number): Job | undefined {
  if (running.length === 0) return queue[0];
  if (running.some(({ lane }) => lane.alone)) return undefined;
  const busy = running.reduce((total, { lane }) => total + lane.load, 0);
  return queue.find(({ lane }) => {
    if (lane.alone) return false;
    const ofLane = running.filter((job) => job.lane === lane).length;
    return (lane.ava === 'once' || ofLane < lane.concurrency) && busy + lane.load <= cores * OVERCOMMIT;
  });
}

/** More files than this fail for a reason that is no accident. */
const AGAIN_AT_MOST = 2;

/** The failed jobs to be run once more, alone; none where there are too many of them. */
export function runAgain(outcomes: readonly { job: Job; result: Result }[]): Job[] {
  const failed = outcomes.filter(({ job, result }) => job.lane.again && result.failures.length > 0);
  return failed.length > AGAIN_AT_MOST ? [] : failed.map(({ job }) => job);
}
