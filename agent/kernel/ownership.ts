// Whose the links are that a step is about. A plan made from what the kernel has leaves links of others alone; steps that
// follow from a changed record know nothing of the kernel, and reach a link by its name, which somebody else may have taken.
import { LINK_PREFIX } from '../../core/objects.js';
import type { Step } from '../../core/plan.js';
import type { KernelLink } from './decode.js';

type Find = (name: string) => Pick<KernelLink, 'owned' | 'marked'> | undefined;

/**
 * The link of somebody else's that the step would touch, by its name; undefined where there is none. Routes may go from any
 * link: they carry a mark of their own.
 */
export function otherOwner(step: Step, find: Find): string | undefined {
  for (const name of linksOf(step)) {
    const link = name === '' ? undefined : find(name);
    // One that was just made has no alias yet, without which a name of others' is not weft's.
    if (link !== undefined && !link.owned && !link.marked) return name;
  }
  return undefined;
}

/** Names of the links that must be weft's where they are there. */
function linksOf(step: Step): string[] {
  if (step.do === 'delete-link') return [step.name];
  if (step.do === 'create-link' || step.do === 'change-link') {
    const { link } = step;
    const under =
      link.type === 'veth' ? ownName(link.master) : link.type === 'vlan' ? ownName(link.base) : [];
    return step.do === 'create-link' || link.type === 'loopback' ? under : [link.name, ...under];
  }
  const { object } = step;
  switch (object.kind) {
    case 'sysctl': {
      const [, , conf, name = ''] = object.path.split('/');
      return conf === 'conf' && name !== 'all' && name !== 'default' ? [name] : [];
    }
    case 'port':
      return step.do === 'put' ? [object.master] : [];
    case 'vlan':
      return ownName(object.bridge);
    case 'route':
      return step.do === 'put' && object.underlay !== true ? [object.link] : [];
    default:
      return [object.link];
  }
}

/** Containers are ports of bridges of others, too, but of none that has taken a name of weft's. */
const ownName = (bridge: string): string[] => (bridge.startsWith(LINK_PREFIX) ? [bridge] : []);
