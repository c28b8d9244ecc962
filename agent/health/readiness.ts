// Readiness of the agent, as /readyz answers it.
//
// The agent is ready once its start is complete, while this node is a member of the cluster.
import type { Readiness } from '../../daemon/http.js';
import { NODE, type ProblemKey } from './problem-key.js';
import type { Problems } from './problems.js';

/** The work after etcd's first full list has failed. */
export const FIRST_LIST = { scope: NODE, kind: 'first-list' } as const satisfies ProblemKey;

/** Another agent of this node's name is alive: other nodes do not see this one. */
export const NAME_CONFLICT = { scope: NODE, kind: 'name' } as const satisfies ProblemKey;

/** This node was removed from the cluster while it was up: every attach fails. */
export const NODE_REMOVED = { scope: NODE, kind: 'removed' } as const satisfies ProblemKey;

const OUT = [NODE_REMOVED, NAME_CONFLICT] as const;

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
