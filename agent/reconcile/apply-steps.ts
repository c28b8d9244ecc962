// Steps carried out in a namespace, and counted.
import { linkKey, objectKey, type ObjectKey } from '../../core/objects/index.js';
import { describeStep, type Step } from '../../core/plan.js';
import type { Logger } from '../../daemon/log.js';
import type { AgentMetrics } from '../health/index.js';
import type { KernelNamespace, StepFailure } from '../kernel/index.js';
import type { Repair } from './drift.js';

export interface StepCounters {
  metrics: Pick<AgentMetrics, 'steps' | 'stepsFailed' | 'totals'>;
  log: Pick<Logger, 'debug'>;
}

/** Answers what the kernel refused. */
export async function applySteps(
  { metrics, log }: StepCounters,
  namespace: KernelNamespace,
  steps: readonly Step[],
  peers?: ReadonlyMap<string, KernelNamespace>,
): Promise<StepFailure[]> {
  if (steps.length === 0) return [];
  const failures = await namespace.apply(steps, peers);
  for (const step of steps) metrics.steps.inc({ verb: describeStep(step).verb });
  metrics.totals.applied += steps.length - failures.length;
  metrics.totals.failed += failures.length;
  for (const { step, errno, message } of failures) {
    const { verb, what } = describeStep(step);
    metrics.stepsFailed.inc({ verb });
    log.debug('the kernel refused a step', { verb, what, errno, message });
  }
  return failures;
}

/** The steps that were carried out. */
export const without = (steps: readonly Step[], failures: readonly StepFailure[]): Step[] =>
  steps.filter((step) => !failures.some((failure) => failure.step === step));

/** Makes before deletions, as within one plan: several records' steps become one. */
export function inOrder(steps: readonly Step[]): Step[] {
  const deletes = (step: Step): boolean => step.do === 'delete';
  return [...steps.filter((step) => !deletes(step)), ...steps.filter(deletes)];
}

export const deletesLink = (step: Step): boolean => step.do === 'delete-link';

/** Names of the links that these steps create. */
export const createdLinks = (steps: readonly Step[]): Set<string> =>
  new Set(steps.flatMap((step) => (step.do === 'create-link' ? [step.link.name] : [])));

/** @param where ` in PATH` of a container: each has an eth0 and a default route of its own */
export function repairsOf(steps: readonly Step[], where = ''): Repair[] {
  return steps.map((step) => {
    const { verb, what } = describeStep(step);
    return { key: stepKey(step), found: [`${what} (${verb})${where}`], what: `${what}${where}` };
  });
}

/** The key of the object that a step is about, by which notifications name it, too. */
function stepKey(step: Step): ObjectKey {
  if (step.do === 'delete-link') return linkKey(step.name);
  return objectKey(step.do === 'put' || step.do === 'delete' ? step.object : step.link);
}
