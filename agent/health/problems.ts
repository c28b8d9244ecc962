// What is not as it should be on this node, for `weft status`: each part of the agent sets and clears its own entries,
// and an entry that is set again with the same words is one problem, not two.
import { messageOf, WeftError } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';

export interface Problem {
  what: string;
  why: string;
  fix: string;
}

export class Problems {
  readonly #byKey = new Map<string, Problem>();

  constructor(private readonly onChange: () => void = () => {}) {}

  set(key: string, problem: Problem): void {
    const before = this.#byKey.get(key);
    if (before !== undefined && before.what === problem.what && before.why === problem.why) return;
    this.#byKey.set(key, problem);
    this.onChange();
  }

  get(key: string): Problem | undefined {
    return this.#byKey.get(key);
  }

  clear(key: string): void {
    if (this.#byKey.delete(key)) this.onChange();
  }

  /** Makes the entries whose key begins with `prefix` exactly these. */
  replace(prefix: string, problems: ReadonlyMap<string, Problem>): void {
    for (const key of [...this.#byKey.keys()]) {
      if (key.startsWith(prefix) && !problems.has(key)) this.clear(key);
    }
    for (const [key, problem] of problems) this.set(key, problem);
  }

  list(): Problem[] {
    return [...this.#byKey.values()];
  }
}

/**
 * Does what is done again: until it works, its failure is a problem, and the caller goes on. Answers whether it worked.
 * @param again when it is done again, for people; without it, when etcd answers
 */
export async function attempt(
  { problems, log }: { problems: Problems; log: Logger },
  key: string,
  work: () => Promise<void>,
  again?: string,
): Promise<boolean> {
  try {
    await work();
    problems.clear(key);
    return true;
  } catch (error) {
    const next = error instanceof WeftError ? error.next : undefined;
    log.warn('could not be done now', { key, error: messageOf(error) });
    problems.set(key, {
      what: key,
      why: messageOf(error),
      fix:
        again === undefined
          ? (next ?? 'It is tried again when etcd answers.')
          : [next, again].filter((sentence) => sentence !== undefined).join(' '),
    });
    return false;
  }
}
