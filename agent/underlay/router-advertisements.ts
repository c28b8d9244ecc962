// Reports links that ignore router advertisements because this host forwards IPv6.
//
// Dual-stack networks need a host that forwards IPv6. The kernel then ignores advertisements on links whose accept_ra is not
// 2, and the host's own addresses and default route expire some time after the first attach. The link is the host's, so
// weft does not change it.
import { sysctlName } from '../../core/objects/index.js';
import type { Logger } from '../../daemon/log.js';
import type { Kernel } from '../kernel/index.js';
import { type Problem, type Problems, UNDERLAY } from '../health/index.js';
import { Look } from '../reconcile/index.js';

export interface RouterAdvertisementsOptions {
  kernel: Pick<Kernel, 'linksIgnoringRa'>;
  problems: Problems;
  log: Pick<Logger, 'debug'>;
  /** Whether weft enables IPv6 forwarding on this host. */
  forwards: () => boolean;
}

/** The kernel does not notify of accept_ra: polled as often as everything else that it does not notify of. */
const EVERY_MS = 10_000;

/** Sets a problem for each link that ignores advertisements and clears it once the link accepts them again. */
export function routerAdvertisements({ kernel, problems, log, forwards }: RouterAdvertisementsOptions): Look {
  return new Look({ what: 'links that ignore router advertisements', everyMs: EVERY_MS, log }, async () => {
    const links = forwards() ? await kernel.linksIgnoringRa() : [];
    const found = new Map(links.map((link) => [link, problemOf(link)]));
    problems.replace(UNDERLAY, 'router-advertisements', found);
  });
}

const problemOf = (link: string): Problem => ({
  what: `IPv6 of ${link}`,
  why: 'its addresses or routes come from router advertisements, and the kernel now ignores them: dual-stack networks make this host forward IPv6, and accept_ra of this link is 1',
  fix: `Run \`sysctl ${sysctlName(`net/ipv6/conf/${link}/accept_ra`)}=2\`, and set it in /etc/sysctl.d, too; the routers' next advertisement brings back what is missing.`,
});
