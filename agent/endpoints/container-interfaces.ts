// Interfaces in a container before an attach: taken names, default route.
//
// The default route may be another program's. Leftovers of an attach during which the agent was killed are deleted first:
// they have the name and the default route that the next attempt needs, and would otherwise stay until the first pruning.
import { alreadyExists } from '../../core/errors.js';
import { isMacOfIp } from '../../core/link-names.js';
import { DEFAULT_ROUTE, LINK_PREFIX, linkKey, type Actual } from '../../core/objects/index.js';
import { assume } from '../../core/plan.js';
import type { KernelNamespace } from '../kernel/index.js';

export interface ContainerLinks {
  /** Name for the endpoint's link. */
  ifname: string;
  hasDefaultRoute: boolean;
  actual: Actual;
}

/**
 * @param target the container's name in an error
 * @param wanted the name that is asked for; absent: the next free ethN
 * @param isWanted whether a record has a link with this MAC address
 * @throws WeftError ALREADY_EXISTS if that name is taken
 */
export async function lookAtLinks(
  namespace: KernelNamespace,
  target: string,
  wanted: string | undefined,
  isWanted: (mac: string) => boolean,
): Promise<ContainerLinks> {
  let names = await namespace.linkNames();
  const fresh = [...names].every((name) => name === 'lo');
  // A namespace with only lo needs no dump.
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
 * Container ends of weft's veth pairs that are in no record. Only those that are certainly leftovers: a container may itself be
 * a weft node, whose links carry the same mark, but have names with weft's prefix or random MAC addresses.
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
