// Waiting for something to become true, with a deadline, and a failure that says what was waited for and what was last seen.
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';

/** How much longer everything takes where the tests run: more than 1 in an emulated machine (the vm lane). */
export const slowness = Number(process.env['WEFT_TEST_SLOWNESS'] ?? 1);

export interface WaitOptions {
  /** Default 15 s: several times what anything here takes on a slow machine. Times `slowness`. */
  timeoutMs?: number;
  everyMs?: number;
  /** What to show where it fails: the tails of the logs. */
  context?: () => string;
}

/**
 * Asks `probe` again and again until it answers something other than undefined or false. What it throws counts as "not
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
