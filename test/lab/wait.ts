// Waiting for something to become true, with a deadline, and a failure that says what was waited for and what was last seen.
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf } from '../../core/errors.js';

export interface WaitOptions {
  /** Default 15 s: several times what anything here takes on a slow machine. */
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
  const deadline = Date.now() + timeoutMs;
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
    `${what}: not within ${timeoutMs / 1000} s (${last})${context === undefined ? '' : `\n${context()}`}`,
  );
}
