// What a container has already that matters to an attach: names that are taken, and a default route of somebody else's. What
// an agent that was killed in the middle of an attach left there is taken away first: it has the name and the default route
// that the next try wants, and goes with the first pruning.
import { alreadyExists } from '../../core/errors.js';
import { isMacOfIp } from '../../core/link-names.js';
import { DEFAULT_ROUTE, LINK_PREFIX, linkKey, type Actual } from '../../core/objects/index.js';
import { assume } from '../../core/plan.js';
import type { KernelNamespace } from '../kernel/index.js';

export interface ContainerLinks {
  /** The name that the endpoint's link gets. */
  ifname: string;
  hasDefaultRoute: boolean;
  actual: Actual;
}

/**
 * @param target what the container is called in a refusal
 * @param wanted the name that was asked for; otherwise the next free ethN is taken
 * @param isWanted whether a record wants a link with this MAC address
 * @throws WeftError ALREADY_EXISTS where that name is taken
 */
export async function lookAtLinks(
  namespace: KernelNamespace,
  target: string,
  wanted: string | undefined,
  isWanted: (mac: string) => boolean,
): Promise<ContainerLinks> {
  let names = await namespace.linkNames();
  const fresh = [...names].every((name) => name === 'lo');
  // A namespace with nothing but lo has nothing to look at.
  let actual = fresh ? assume([]) : await namespace.observe([]);
  const leftovers = leftoversIn(actual, isWanted);
  if (leftovers.length > 0) {
    await namespace.apply(leftovers.map((name) => ({ do: 'delete-link', name })));
    names = await namespace.linkNames();
    actual = await namespace.observe([]);
  }
  const hasDefaultRoute = actual.objects.has(DEFAULT_ROUTE[4]) || actual.objects.has(DEFAULT_ROUTE[6]);
  const loopback = fresh
    ? {
        ...actual,
        objects: new Map([
          [linkKey('lo'), { object: { kind: 'link', type: 'loopback', name: 'lo' } as const, owned: false }],
        ]),
      }
    : actual;
  if (wanted !== undefined && names.has(wanted)) {
    throw alreadyExists(
      `${target} has an interface ${wanted} already`,
      'Choose another --ifname, or leave it out: the next free ethN is taken.',
    );
  }
  let ifname = wanted ?? 'eth0';
  for (let n = 1; names.has(ifname); n++) ifname = `eth${n}`;
  return { ifname, hasDefaultRoute, actual: loopback };
}

/**
 * The container's ends of pairs that weft made and no record wants. Only what is weft's beyond doubt: a container may be a
 * node of weft's itself, and the ends there carry the same mark, but names of their own, or random addresses.
 */
function leftoversIn({ objects }: Actual, isWanted: (mac: string) => boolean): string[] {
  return [...objects.values()].flatMap(({ object, owned }) =>
    owned &&
    object.kind === 'link' &&
    object.type === 'peer' &&
    !object.name.startsWith(LINK_PREFIX) &&
    isMacOfIp(object.mac) &&
    !isWanted(object.mac)
      ? [object.name]
      : [],
  );
}
