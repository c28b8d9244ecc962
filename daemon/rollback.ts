// Rollback: steps that are taken back in reverse order when a later one fails.
//
// A change that is all or nothing runs inside allOrNothing and adds, beside each step, how to take it back. Taking back tries
// everything: a step that cannot be taken back is logged, and the error that people get is the one that began it.
import { messageOf } from '../core/errors.js';
import type { Logger } from './log.js';

export class Rollback {
  readonly #steps: (() => Promise<void> | void)[] = [];

  add(step: () => Promise<void> | void): void {
    this.#steps.push(step);
  }

  /** @param what the change was about, for the log */
  async run(log: Logger, what: string): Promise<void> {
    for (const step of this.#steps.toReversed()) {
      try {
        await step();
      } catch (failure) {
        log.warn('a failed change could not be rolled back in full', { what, error: messageOf(failure) });
      }
    }
  }
}

/** @throws what `work` throws, after everything that it added was taken back */
export async function allOrNothing<T>(
  log: Logger,
  what: string,
  work: (rollback: Rollback) => Promise<T>,
): Promise<T> {
  const rollback = new Rollback();
  try {
    return await work(rollback);
  } catch (error) {
    await rollback.run(log, what);
    throw error;
  }
}
