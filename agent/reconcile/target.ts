// A target of the reconciler: what it compares and changes.
//
// The node's namespace, each container's and the firewall are targets; something outside this host (a cloud's route table)
// can be one. The same loop observes, plans for and changes every target. Its problems belong to its own scope.
import type { Actual } from '../../core/objects/index.js';
import type { Plan } from '../../core/plan.js';
import type { KernelEvent, KernelNamespace } from '../kernel/index.js';
import type { Drift, Repair } from './drift.js';
import type { SandboxKey } from './record-key.js';

/** @template A what is observed @template P what is applied */
export interface Target<A = Actual, P = Plan> {
  readonly drift: Drift;
  /** Changes nothing. Undefined: it cannot be observed now, which becomes a problem or ends its record. */
  observe(): Promise<A | undefined>;
  /** The changes from the actual to the desired state. */
  plan(actual: A): P;
  /** Applies a plan. A refused step becomes a problem of the target. */
  apply(plan: P): Promise<Applied>;
  /** Closes what observe opened. */
  release?(): void;
  /** Whether a kernel notification requires a comparison soon. */
  concerns?(event: KernelEvent): boolean;
}

/** Told what a comparison has observed. */
export interface Observers {
  node(actual: Actual): void;
  /** @param namespace open until this returns */
  container(record: SandboxKey, namespace: KernelNamespace, actual: Actual): void;
}

export interface Applied {
  /** What another process had changed and is repaired now. */
  repaired: readonly Repair[];
  /** Whether this comparison needs another one at once to complete it. */
  again: boolean;
}

/** One comparison of one target. @returns undefined where it could not be observed */
export async function compareTarget<A, P>(
  target: Target<A, P>,
  countDrift = true,
): Promise<{ plan: P; again: boolean } | undefined> {
  target.drift.sweep();
  try {
    const actual = await target.observe();
    if (actual === undefined) return undefined;
    const plan = target.plan(actual);
    const { repaired, again } = await target.apply(plan);
    if (countDrift) target.drift.note(repaired);
    return { plan, again };
  } finally {
    target.release?.();
  }
}
