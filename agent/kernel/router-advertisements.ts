// Host links that depend on router advertisements, and ignore them.
//
// A forwarding link accepts them only where its accept_ra is 2 (Documentation/networking/ip-sysctl.rst). A network manager that
// reads the advertisements itself sets accept_ra to 0.
import { readFileSync } from 'node:fs';

import type { LinuxNamespace } from './namespace.js';
import {
  decodeAddress,
  decodeRoute,
  dumpAddresses,
  dumpRoutes,
  type KernelLink,
  type LinkLookup,
} from './objects/index.js';

/** In the namespace that the process runs in. See Kernel.linksIgnoringRa. @throws SystemError */
export function linksIgnoringRa(node: LinuxNamespace): string[] {
  const links = node.links();
  const lookup: LinkLookup = { byIndex: (index) => links.get(index), marksAddresses: true, role: 'node' };
  const living = new Set<string>();
  const note = (link: KernelLink | undefined): void => {
    if (link !== undefined && !link.owned && !link.loopback) living.add(link.name);
  };
  for (const { body } of node.socket.dump(dumpAddresses)) {
    const address = decodeAddress(body, lookup);
    if (address?.global === true && !address.permanent && address.text.includes(':')) note(address.link);
  }
  // The kernel deletes the default routes of such a link when it begins to forward; other routes with a lifetime remain.
  for (const { body } of node.socket.dump(dumpRoutes)) {
    const route = decodeRoute(body, lookup);
    if (route?.family === 6 && route.advertised) note(route.link);
  }
  return [...living].filter(
    (name) => setting(name, 'accept_ra') === '1' && setting(name, 'forwarding') === '1',
  );
}

function setting(link: string, name: string): string {
  try {
    return readFileSync(`/proc/sys/net/ipv6/conf/${link}/${name}`, 'utf8').trim();
  } catch {
    // The link is deleted, or the host has no IPv6.
    return '';
  }
}
