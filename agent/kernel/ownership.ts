// Ownership of the links that a step touches.
//
// A plan made from the observed state leaves unowned links alone; steps that follow from a changed record know nothing of the
// kernel, and address a link by its name, which an unowned link may have.
import { kindOf } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import type { KernelLink } from './objects/index.js';

type Find = (name: string) => Pick<KernelLink, 'owned' | 'marked'> | undefined;

/**
 * The unowned link that the step would touch, by its name; undefined where there is none. Routes may use any link: they carry a
 * mark of their own.
 */
export function otherOwner(step: Step, find: Find): string | undefined {
  for (const name of guardedBy(step)) {
    const link = name === '' ? undefined : find(name);
    // A new link has no alias yet, and under a name outside weft's prefixes it is owned only with one.
    if (link !== undefined && !link.owned && !link.marked) return name;
  }
  return undefined;
}

/** Names of the links that must be weft's where they exist. */
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
