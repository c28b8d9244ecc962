// Rollback of a change that fails half way: its steps are undone in reverse order.
import { messageOf } from '../core/errors.js';
import type { Logger } from './log.js';

export class Rollback {
  readonly #steps: (() => Promise<void>)[] = [];

  push(step: () => Promise<void>): void {
    this.#steps.push(step);
  }

  /** Tries every step, whatever fails. @param id the endpoint or attachment, for the log */
  async run(log: Logger, id: string): Promise<void> {
    for (const step of this.#steps.toReversed()) {
      try {
        await step();
      } catch (failure) {
        log.warn('a failed attach could not be rolled back', { id, error: messageOf(failure) });
      }
    }
  }
}
