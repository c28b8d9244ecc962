// What a container has already that matters to an attach: names that are taken, and a default route of somebody else's.
import { alreadyExists } from '../core/errors.js';
import type { Actual } from '../core/objects.js';
import { assume } from '../core/plan.js';
import type { KernelNamespace } from './kernel/kernel.js';

export interface ContainerLinks {
  /** The name that the endpoint's link gets. */
  ifname: string;
  hasDefaultRoute: boolean;
  actual: Actual;
}

/**
 * @param target what the container is called in a refusal
 * @param wanted the name that was asked for; otherwise the next free ethN is taken
 * @throws WeftError ALREADY_EXISTS where that name is taken
 */
export async function lookAtLinks(
  namespace: KernelNamespace,
  target: string,
  wanted: string | undefined,
): Promise<ContainerLinks> {
  const names = await namespace.linkNames();
  const fresh = [...names].every((name) => name === 'lo');
  // A namespace with nothing but lo has nothing to look at.
  const actual = fresh ? assume([]) : await namespace.observe([]);
  const hasDefaultRoute = actual.objects.has('route 0.0.0.0/0') || actual.objects.has('route ::/0');
  const loopback = fresh
    ? {
        ...actual,
        objects: new Map([
          ['link lo', { object: { kind: 'link', type: 'loopback', name: 'lo' } as const, owned: false }],
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
