// An attempt at work that is retried; its failure is a problem.
import { messageOf, nextOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { ProblemKey } from './problem-key.js';
import type { Problems } from './problems.js';

export interface Attempt extends ProblemKey {
  /** For people: what the work is about. */
  what: string;
  /** The cause, in words around the error's message. */
  because?: (message: string) => string;
  /** When the work is retried; follows the next step of the error. */
  again?: string;
  /** The next step where the error has none and `again` is absent. */
  otherwise?: string;
}

/** @returns whether the work succeeded; the caller goes on either way */
export async function attempt(
  { problems, log }: { problems: Problems; log: Logger },
  { what, because, again, otherwise = 'It is tried again when etcd answers.', ...key }: Attempt,
  work: () => Promise<void>,
): Promise<boolean> {
  try {
    await work();
    problems.clear(key);
    return true;
  } catch (error) {
    const message = messageOf(error);
    const next = nextOf(error);
    log.warn('an attempt failed', { what, error: message });
    problems.set(key, {
      what,
      why: because?.(message) ?? message,
      fix: again === undefined ? (next ?? otherwise) : next === undefined ? again : `${next} ${again}`,
    });
    return false;
  }
}
