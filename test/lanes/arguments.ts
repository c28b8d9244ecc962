// The command line of the lanes: lanes, test files, and what is passed on to ava.
import { relative, resolve } from 'node:path';

import { laneOf, lanesNamed, USUAL_LANES, type Lane } from './table.js';

export interface Wanted {
  /** Whole lanes, or files of them. */
  lanes: { lane: Lane; files?: string[] }[];
  avaOptions: string[];
}

/** ava's options that have a value in the next word. */
const WITH_VALUE = ['--match', '-m', '--timeout', '-T', '--concurrency', '-c', '--node-arguments'];

/** @throws Error for what is neither a lane nor a test file */
export function readArguments(args: readonly string[], checkout: string): Wanted {
  const wanted: Wanted = { lanes: [], avaOptions: [] };
  const words = [...args];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    if (word.startsWith('-')) {
      wanted.avaOptions.push(word);
      const value = WITH_VALUE.includes(word) ? words.shift() : undefined;
      if (value !== undefined) wanted.avaOptions.push(value);
      continue;
    }
    const named = lanesNamed(word);
    if (named.length > 0) {
      wanted.lanes.push(...named.map((lane) => ({ lane })));
      continue;
    }
    const file = relative(checkout, resolve(word));
    // ava takes lines after the name: test/core/plan.test.ts:12
    const lane = laneOf(file.replace(/:[\d,-]+$/, ''));
    if (lane === undefined) throw new Error(`${word}: neither a lane nor a test file`);
    const same = wanted.lanes.find((one) => one.lane === lane && one.files !== undefined);
    if (same === undefined) wanted.lanes.push({ lane, files: [file] });
    else same.files?.push(file);
  }
  if (wanted.lanes.length === 0) wanted.lanes = USUAL_LANES.map((lane) => ({ lane }));
  return wanted;
}
