// What /readyz answers: the agent can do its work once it has begun, as long as nobody has taken this node's place.
import type { Readiness } from '../../daemon/http.js';
import type { Problems } from './problems.js';

/** The key of the problem that what is done with the first full list has failed. */
export const FIRST_LIST = 'first list';

/** The keys of problems with which every attach is refused, or this node is not seen by any other. */
const OUT = ['expelled', 'name'] as const;

export class AgentReadiness {
  #waiting: string | undefined = 'the agent is starting';

  constructor(private readonly problems: Pick<Problems, 'get'>) {}

  /** @param reason for people */
  waitsFor(reason: string): void {
    this.#waiting = reason;
  }

  begins(): void {
    this.#waiting = undefined;
  }

  now(): Readiness {
    const keys = this.#waiting === undefined ? OUT : [...OUT, FIRST_LIST];
    for (const key of keys) {
      const problem = this.problems.get(key);
      if (problem !== undefined) return { ready: false, reason: `${problem.what}: ${problem.why}` };
    }
    return this.#waiting === undefined ? { ready: true } : { ready: false, reason: this.#waiting };
  }
}
