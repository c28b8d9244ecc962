// What a change has done so far that may still fail, so that it can be taken back the other way round.
import { messageOf } from '../core/errors.js';
import type { Logger } from './log.js';

export class Rollback {
  readonly #steps: (() => Promise<void>)[] = [];

  push(step: () => Promise<void>): void {
    this.#steps.push(step);
  }

  /** Tries all of it. @param id the endpoint, or the wire, that was to be */
  async run(log: Logger, id: string): Promise<void> {
    for (const step of this.#steps.toReversed()) {
      try {
        await step();
      } catch (failure) {
        log.warn('taking a failed attach back', { id, error: messageOf(failure) });
      }
    }
  }
}
