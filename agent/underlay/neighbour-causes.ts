// Why a host on the link is not reached: one address on two hosts, or a wrong entry that somebody made by hand.
//
// Nothing is asked while paths are ok.
import type { IpAddress } from '../../core/address.js';
import type { Problem } from '../../core/problem.js';
import type { Kernel } from '../kernel/index.js';
import { isOpen, type OpenPath, type Path } from './path.js';
import type { Cause } from './path-problems.js';

export interface NeighbourCausesOptions {
  kernel: Pick<Kernel, 'nextHop' | 'whoHas'>;
  /** This node's own addresses on the underlay, and their link. */
  own: () => { link: string; ips: readonly IpAddress[] };
}

interface Found {
  problem: Problem | undefined;
  at: number;
}

/** An answer counts for this long. */
const COUNTS_MS = 5000;

export class NeighbourCauses {
  /** By the underlay address of a peer, or of this node. */
  readonly #found = new Map<string, Found>();

  constructor(private readonly options: NeighbourCausesOptions) {}

  /** Asks on the link who has the peer's address, and this node's, unless it was asked lately. */
  async inspect({ probe: { underlay } }: OpenPath, now = performance.now()): Promise<void> {
    const { kernel, own } = this.options;
    const { link, ips } = own();
    const mine = ips.find(({ family }) => family === underlay.family)?.toString();
    const peer = underlay.toString();
    const isDue = (ip: string): boolean => now - (this.#found.get(ip)?.at ?? -Infinity) >= COUNTS_MS;
    const remember = (ip: string, problem: Problem | undefined): void => {
      this.#found.set(ip, { problem, at: now });
    };
    const work: Promise<void>[] = [];
    if (isDue(peer)) {
      remember(peer, this.#found.get(peer)?.problem);
      work.push(this.#ofPeer(peer).then((problem) => remember(peer, problem)));
    }
    // Of an IPv6 address the kernel itself finds out (duplicate address detection).
    if (mine !== undefined && underlay.family === 4 && isDue(mine)) {
      remember(mine, this.#found.get(mine)?.problem);
      work.push(kernel.whoHas(link, mine).then((macs) => remember(mine, ownProblem(mine, link, macs))));
    }
    await Promise.all(work);
  }

  async #ofPeer(ip: string): Promise<Problem | undefined> {
    const { kernel } = this.options;
    const hop = kernel.nextHop(ip);
    if (hop === undefined) return undefined;
    const macs = await kernel.whoHas(hop.link, hop.ip);
    if (macs.length > 1)
      return {
        what: `address ${hop.ip} on ${hop.link}`,
        why: `hosts with the link addresses ${macs.join(' and ')} answer for it: packets go to either of them`,
        fix: 'Find the host that should not have it by its link address, and give it another address.',
      };
    const [mac] = macs;
    if (mac === undefined || hop.permanent === undefined || hop.permanent === mac) return undefined;
    return {
      what: `the permanent neighbour ${hop.ip} of ${hop.link}`,
      why: `it has the link address ${hop.permanent}, and the host that has the address answers with ${mac}`,
      fix: `Remove it: ip neigh del ${hop.ip} dev ${hop.link}; and from where it is configured.`,
    };
  }

  /** What was found for paths that are broken now; the rest is forgotten. */
  causes(broken: readonly Path[]): Cause[] {
    const peers = new Set(broken.filter(isOpen).map(({ probe }) => probe.underlay.toString()));
    const own = this.options.own().ips.map(String);
    const causes = [...this.#found].flatMap(([ip, { problem }]): Cause[] => {
      const isMine = own.includes(ip);
      if (broken.length === 0 || !(isMine || peers.has(ip))) this.#found.delete(ip);
      else if (problem !== undefined)
        return [
          {
            key: `neighbour ${ip}`,
            problem,
            explains: (path) => isOpen(path) && (isMine || path.probe.underlay.toString() === ip),
          },
        ];
      return [];
    });
    return causes;
  }
}

const ownProblem = (ip: string, link: string, macs: readonly string[]): Problem | undefined =>
  macs.length === 0
    ? undefined
    : {
        what: `address ${ip} of ${link}`,
        why: `it is this node's, and another host answers for it, too, with the link address ${macs.join(' and ')}`,
        fix: 'Find that host by its link address, and give it another address.',
      };
