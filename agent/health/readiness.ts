// Readiness of the agent, as /readyz answers it.
//
// The agent is ready once its start is complete, while this node is a member of the cluster.
import type { Readiness } from '../../daemon/http.js';
import { NODE, type ProblemKey } from './problem-key.js';
import type { Problem, Problems } from './problems.js';

/** The work after etcd's first full list has failed. */
export const FIRST_LIST = { scope: NODE, kind: 'first-list' } as const satisfies ProblemKey;

/** Another agent of this node's name is alive: other nodes do not see this one. */
export const NAME_CONFLICT = { scope: NODE, kind: 'name' } as const satisfies ProblemKey;

/** This node was removed from the cluster while it was up: every attach fails. */
export const NODE_REMOVED = { scope: NODE, kind: 'removed' } as const satisfies ProblemKey;

const OUT = [NODE_REMOVED, NAME_CONFLICT] as const;

const STARTING: Problem = { what: 'the agent', why: 'starting', fix: 'It takes less than a second.' };

export class AgentReadiness {
  #isReady = false;
  #cause: (() => Problem) | undefined;

  constructor(private readonly problems: Pick<Problems, 'get'>) {}

  /** @param cause what the start cannot go on without, as it is whenever it is shown; undefined: nothing any more */
  waitsFor(cause: (() => Problem) | undefined): void {
    this.#cause = cause;
  }

  /** Whether the start waits for this, the `what` of a cause. */
  isWaitingFor(what: string): boolean {
    return !this.#isReady && this.#cause?.().what === what;
  }

  /** Why the agent cannot do its work yet; undefined once it can. */
  waiting(): Problem | undefined {
    if (this.#isReady) return undefined;
    if (this.#cause === undefined) return STARTING;
    const { what, why, fix } = this.#cause();
    return { what: 'the agent', why: `waiting for ${what}: ${why}`, fix };
  }

  begins(): void {
    this.#isReady = true;
  }

  now(): Readiness {
    const keys = this.#isReady ? OUT : [...OUT, FIRST_LIST];
    const found = keys.map((key) => this.problems.get(key)).find((problem) => problem !== undefined);
    const problem = found ?? this.waiting();
    return problem === undefined
      ? { ready: true }
      : { ready: false, reason: `${problem.what}: ${problem.why}` };
  }
}
