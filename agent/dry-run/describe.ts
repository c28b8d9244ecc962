// What a comparison would change, as steps with a target, a verb and an object, for people.
import { describeCloudStep } from '../../core/cloud.js';
import { messageOf } from '../../core/errors.js';
import { describeObject, type KernelObject } from '../../core/objects/index.js';
import { describeStep, type Plan, type Step } from '../../core/plan.js';
import type { Preview, SandboxKey } from '../reconcile/index.js';

export interface PlannedStep {
  /** `node`, `firewall`, `cloud`, or a container as a TARGET. */
  target: string;
  verb: string;
  what: string;
}

/** Steps, and what limits them. */
export interface PlannedSteps {
  steps: PlannedStep[];
  notes: string[];
  /** Whether everything could be found out. */
  isComplete: boolean;
}

export function describePreview(
  seen: Preview,
  targetOf: (record: SandboxKey) => string | undefined,
): PlannedSteps {
  const all: { target: string; plan: Plan }[] = [
    { target: 'node', plan: seen.node },
    ...seen.containers.map(({ record, path, plan }) => ({ target: targetOf(record) ?? path, plan })),
  ];
  return {
    steps: [
      ...all.flatMap(({ target, plan }) => plan.steps.map((step) => ({ target, ...describe(step) }))),
      ...seen.firewall.map((word) => ({ target: 'firewall', ...describeWord(word) })),
      ...seen.cloud.map((step) => ({ target: 'cloud', ...describeCloudStep(step) })),
    ],
    notes: [
      ...all.flatMap(({ target, plan }) =>
        plan.conflicts.map(({ object, why }) => `${target}: ${describeObject(object)} is in the way: ${why}`),
      ),
      ...seen.unknown.map(
        ({ path, error }) => `the namespace ${path} cannot be looked into: ${messageOf(error)}`,
      ),
    ],
    isComplete: seen.unknown.length === 0,
  };
}

/** As describeStep, in the words of describeObject. */
function describe(step: Step): Pick<PlannedStep, 'verb' | 'what'> {
  const { verb, what } = describeStep(step);
  const object: KernelObject | undefined =
    step.do === 'delete-link' ? undefined : 'link' in step ? step.link : step.object;
  return { verb, what: object === undefined ? what : describeObject(object) };
}

/** See FirewallDriver.difference. */
function describeWord(word: string): Pick<PlannedStep, 'verb' | 'what'> {
  const missing = / was missing$/;
  const odd = / (is|are) not wanted$/;
  if (missing.test(word)) return { verb: 'create', what: word.replace(missing, '') };
  if (odd.test(word)) return { verb: 'delete', what: word.replace(odd, '') };
  return { verb: 'change', what: word };
}
