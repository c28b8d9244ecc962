// Waits for a condition, with a deadline.
//
// A failure names the condition and what was last seen.
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';

/** Factor on all waits: more than 1 in an emulated machine (the vm lane). */
export const slowness = Number(process.env['WEFT_TEST_SLOWNESS'] ?? 1);

export interface WaitOptions {
  /** Default 15 s, several times the longest wait on a slow machine. Multiplied by `slowness`. */
  timeoutMs?: number;
  everyMs?: number;
  /** Shown on failure: the tails of the logs. */
  context?: () => string;
}

/**
 * Polls `probe` until it returns something other than undefined or false. An exception counts as "not
 * yet". @throws Error after the deadline, naming `what`
 */
export async function until<T>(
  what: string,
  probe: () => T | undefined | false | Promise<T | undefined | false>,
  { timeoutMs = 15_000, everyMs = 50, context }: WaitOptions = {},
): Promise<T> {
  const within = timeoutMs * slowness;
  const deadline = Date.now() + within;
  let last = 'it never was';
  for (;;) {
    try {
      const answer = await probe();
      if (answer !== undefined && answer !== false) return answer;
    } catch (error) {
      last = messageOf(error);
    }
    if (Date.now() > deadline) break;
    await delay(everyMs);
  }
  throw new Error(
    `${what}: not within ${within / 1000} s (${last})${context === undefined ? '' : `\n${context()}`}`,
  );
}

/** How much is done at once on a slow machine: weft's own deadlines are not stretched there. */
const SLOWLY = 3;

/** Does all of it at once, where the machine is not slow. */
export async function sideBySide<T>(work: readonly (() => Promise<T>)[]): Promise<T[]> {
  const done: T[] = [];
  const rest = work.entries();
  const lane = async (): Promise<void> => {
    for (const [i, one] of rest) done[i] = await one();
  };
  await Promise.all(Array.from({ length: slowness > 1 ? SLOWLY : work.length }, lane));
  return done;
}
