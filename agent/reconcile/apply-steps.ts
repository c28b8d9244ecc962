// Applies steps in a namespace and counts them.
import { linkKey, objectKey, type ObjectKey } from '../../core/objects/index.js';
import { describeStep, verbOf, type Step } from '../../core/plan.js';
import type { Logger } from '../../daemon/log.js';
import type { AgentMetrics } from '../health/index.js';
import type { KernelNamespace, StepFailure } from '../kernel/index.js';
import type { Repair } from './drift.js';

export interface StepCounters {
  metrics: Pick<AgentMetrics, 'steps' | 'stepsFailed' | 'totals'>;
  log: Pick<Logger, 'debug'>;
}

/** @returns the steps that the kernel refused */
export async function applySteps(
  { metrics, log }: StepCounters,
  namespace: KernelNamespace,
  steps: readonly Step[],
  peers?: ReadonlyMap<string, KernelNamespace>,
): Promise<StepFailure[]> {
  if (steps.length === 0) return [];
  const failures = await namespace.apply(steps, peers);
  const verbs = new Map<string, number>();
  for (const step of steps) {
    const verb = verbOf(step);
    verbs.set(verb, (verbs.get(verb) ?? 0) + 1);
  }
  for (const [verb, count] of verbs) metrics.steps.inc({ verb }, count);
  metrics.totals.applied += steps.length - failures.length;
  metrics.totals.failed += failures.length;
  for (const { step, errno, message } of failures) {
    const { verb, what } = describeStep(step);
    metrics.stepsFailed.inc({ verb });
    log.debug('the kernel refused a step', { verb, what, errno, message });
  }
  return failures;
}

/** The steps that were applied. */
export const without = (steps: readonly Step[], failures: readonly StepFailure[]): Step[] =>
  steps.filter((step) => !failures.some((failure) => failure.step === step));

/** Puts deletions last, as within one plan, when the steps of several records are joined. */
export function inOrder(steps: readonly Step[]): Step[] {
  const deletes = (step: Step): boolean => step.do === 'delete';
  return [...steps.filter((step) => !deletes(step)), ...steps.filter(deletes)];
}

export const deletesLink = (step: Step): boolean => step.do === 'delete-link';

/** Names of the links that these steps create. */
export const createdLinks = (steps: readonly Step[]): Set<string> =>
  new Set(steps.flatMap((step) => (step.do === 'create-link' ? [step.link.name] : [])));

/** @param where ` in PATH` for a container: every container has an eth0 and a default route */
export function repairsOf(steps: readonly Step[], where = ''): Repair[] {
  return steps.map((step) => {
    const { verb, what } = describeStep(step);
    return { key: stepKey(step), found: [`${what} (${verb})${where}`], what: `${what}${where}` };
  });
}

/** The key of the object that a step is about, as notifications name it, too. */
function stepKey(step: Step): ObjectKey {
  if (step.do === 'delete-link') return linkKey(step.name);
  return objectKey(step.do === 'put' || step.do === 'delete' ? step.object : step.link);
}
