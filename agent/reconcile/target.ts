// A target of the reconciler: what is compared with the records, and changed.
//
// The node's namespace, each container's and the firewall are targets; something outside of this host (a cloud's route table)
// can be one. Every target is observed, planned for and changed in the same loop. Its problems belong to its own scope.
import type { Actual } from '../../core/objects/index.js';
import type { Plan } from '../../core/plan.js';
import type { KernelEvent } from '../kernel/index.js';
import type { Drift, Repair } from './drift.js';

/** @template A what is observed @template P what is applied */
export interface Target<A = Actual, P = Plan> {
  readonly drift: Drift;
  /** Changes nothing. Undefined: it cannot be observed now, which is a problem or the end of its record. */
  observe(): Promise<A | undefined>;
  /** What leads from there to what the records say. */
  plan(actual: A): P;
  /** Carries a plan out. What is refused becomes a problem of the target. */
  apply(plan: P): Promise<Applied>;
  /** Closes what observe opened. */
  release?(): void;
  /** Whether it must be compared soon, by what the kernel notifies of. */
  concerns?(event: KernelEvent): boolean;
}

export interface Applied {
  /** What something else had changed, and is right again. */
  repaired: readonly Repair[];
  /** Whether another comparison is needed at once to complete this one. */
  again: boolean;
}
