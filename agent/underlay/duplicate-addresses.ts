// IPv6 addresses of this host that another host of the link has, too.
//
// The kernel does not use them, and hears nothing from the hosts that have them rightly. Where one of those is a node, its
// link address is resolved in the kernel's place, so that the tunnels to it stay up until somebody removes the address.
import type { Logger } from '../../daemon/log.js';
import type { View } from '../../store/store.js';
import { type Problem, type Problems, UNDERLAY } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import { Look } from '../reconcile/index.js';

export interface DuplicateAddressesOptions {
  kernel: Pick<Kernel, 'underlayLinks' | 'solicitNeighbour'>;
  view: Pick<View, 'nodes'>;
  /** This node's name: its own record has the address, too. */
  node: string;
  problems: Problems;
  log: Pick<Logger, 'debug'>;
}

/** Shorter than a resolved neighbour may be used for: half of the kernel's 30 s (RFC 4861 §6.3.2). */
const EVERY_MS = 5000;

/** A change of an address, which the kernel notifies of, is the reason to look; again and again only while there are some. */
export function duplicateAddresses({ kernel, view, node, problems, log }: DuplicateAddressesOptions): Look {
  let isDue = true;
  const what = 'duplicate addresses';
  return new Look({ what, everyMs: EVERY_MS, isDue: () => isDue, log }, async () => {
    isDue = true;
    const found = new Map<string, Problem>();
    const others = [...view.nodes.values()].filter(({ name }) => name !== node);
    for (const { name: link, flaws = {} } of await kernel.underlayLinks()) {
      for (const [text, flaw] of Object.entries(flaws)) {
        if (flaw !== 'duplicate') continue;
        const [ip = ''] = text.split('/');
        const owner = others.find(({ publicIp, publicIp6 }) => [publicIp, publicIp6].includes(ip))?.name;
        if (owner !== undefined) await kernel.solicitNeighbour(link, ip);
        found.set(`${link} ${text}`, problemOf(link, text, owner));
      }
    }
    problems.replace(UNDERLAY, 'duplicate-address', found);
    isDue = found.size > 0;
  });
}

const problemOf = (link: string, address: string, owner: string | undefined): Problem => ({
  what: `address ${address} of ${link}`,
  why: `${owner === undefined ? 'another host of the link' : `node ${owner}`} has it, too: duplicate address detection has failed (dadfailed), and the kernel of this host cannot reach that host by it`,
  fix: `Remove it: ip addr del ${address} dev ${link}; and from where it is configured.`,
});
