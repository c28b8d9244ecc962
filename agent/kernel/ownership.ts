// Whose the links are that a step is about. A plan made from what the kernel has leaves links of others alone; steps that
// follow from a changed record know nothing of the kernel, and reach a link by its name, which somebody else may have taken.
import { kindOf } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import type { KernelLink } from './objects/index.js';

type Find = (name: string) => Pick<KernelLink, 'owned' | 'marked'> | undefined;

/**
 * The link of somebody else's that the step would touch, by its name; undefined where there is none. Routes may go from any
 * link: they carry a mark of their own.
 */
export function otherOwner(step: Step, find: Find): string | undefined {
  for (const name of guardedBy(step)) {
    const link = name === '' ? undefined : find(name);
    // One that was just made has no alias yet, without which a name of others' is not weft's.
    if (link !== undefined && !link.owned && !link.marked) return name;
  }
  return undefined;
}

/** Names of the links that must be weft's where they are there. */
function guardedBy(step: Step): readonly string[] {
  switch (step.do) {
    case 'delete-link':
      return [step.name];
    case 'create-link':
      return kindOf(step.link).guards(step.link, 'create');
    case 'change-link':
      return kindOf(step.link).guards(step.link, 'change');
    case 'put':
      return kindOf(step.object).guards(step.object, 'change');
    case 'delete':
      return kindOf(step.object).guards(step.object, 'delete');
  }
}
