// Why a host on the link is not reached: one address on two hosts, or a wrong entry that somebody made by hand.
//
// Nothing is asked while paths are ok, but whether what was found is still so.
import type { IpAddress } from '../../core/address.js';
import { messageOf } from '../../core/errors.js';
import type { Problem } from '../../core/problem.js';
import type { Logger } from '../../daemon/log.js';
import { OWN_ADDRESS } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import { isOpen, type OpenPath, type Path } from './path.js';
import type { Cause } from './path-problems.js';

export interface NeighbourCausesOptions {
  kernel: Pick<Kernel, 'nextHop' | 'whoHas'>;
  /** This node's own addresses on the underlay, and their link. */
  own: () => { link: string; ips: readonly IpAddress[] };
  log: Pick<Logger, 'debug'>;
}

interface Found {
  problem: Problem | undefined;
  at: number;
}

/** The same from whichever side it is seen, so that it counts once in a cluster. */
const addressText = (ip: string): string => `the address ${ip}, which two hosts have`;
const GIVE_ANOTHER =
  'Find the host that should not have it by its link address, and give it another address.';

/** An answer counts for this long. */
const COUNTS_MS = 5000;

export class NeighbourCauses {
  /** By the underlay address of a peer, or of this node. */
  readonly #found = new Map<string, Found>();

  constructor(private readonly options: NeighbourCausesOptions) {}

  /** Whether nothing was asked that still counts. */
  get isIdle(): boolean {
    return this.#found.size === 0;
  }

  /** Questions that `inspect` would ask now. */
  packetsFor(path: OpenPath, now = performance.now()): number {
    return this.#asked(path).filter((ip) => this.#isDue(ip, now)).length;
  }

  /** Of an IPv6 address of its own the kernel itself finds out (duplicate address detection). */
  #asked({ probe: { underlay } }: OpenPath): string[] {
    const mine = this.options.own().ips.filter(({ family }) => family === 4 && family === underlay.family);
    return [underlay, ...mine].map(String);
  }

  #isDue(ip: string, now: number): boolean {
    return now - (this.#found.get(ip)?.at ?? -Infinity) >= COUNTS_MS;
  }

  /** Asks on the link who has the peer's address, and this node's, unless it was asked lately. */
  async inspect(path: OpenPath, now = performance.now()): Promise<void> {
    await Promise.all(this.#asked(path).map((ip) => this.#look(ip, now)));
  }

  /** Asks whether another host has this node's address: what is sent to this node goes there then. */
  async inspectOwn(now = performance.now()): Promise<void> {
    const four = this.options.own().ips.find(({ family }) => family === 4);
    if (four !== undefined) await this.#look(four.toString(), now);
  }

  async #look(ip: string, now: number): Promise<void> {
    const { kernel, own, log } = this.options;
    const { link, ips } = own();
    const before = this.#found.get(ip);
    if (!this.#isDue(ip, now)) return;
    this.#found.set(ip, { problem: before?.problem, at: now });
    const isMine = ips.some((one) => one.toString() === ip);
    try {
      const problem = isMine ? ownProblem(ip, link, await kernel.whoHas(link, ip)) : await this.#ofPeer(ip);
      this.#found.set(ip, { problem, at: now });
    } catch (error) {
      log.debug('neighbours could not be asked', { ip, error: messageOf(error) });
    }
  }

  async #ofPeer(ip: string): Promise<Problem | undefined> {
    const { kernel } = this.options;
    const hop = kernel.nextHop(ip);
    if (hop === undefined) return undefined;
    const macs = await kernel.whoHas(hop.link, hop.ip);
    if (macs.length > 1)
      return {
        what: addressText(hop.ip),
        why: `hosts with the link addresses ${macs.join(' and ')} answer for it on ${hop.link}: packets go to either of them`,
        fix: GIVE_ANOTHER,
      };
    const [mac] = macs;
    if (mac === undefined || hop.permanent === undefined || hop.permanent === mac) return undefined;
    return {
      what: `the permanent neighbour ${hop.ip} of ${hop.link}`,
      why: `it has the link address ${hop.permanent}, and the host that has the address answers with ${mac}`,
      fix: `Remove it: ip neigh del ${hop.ip} dev ${hop.link}; and from where it is configured.`,
    };
  }

  /**
   * What was found, for as long as it is so: the kernel may happen to use the right one of two hosts for a while.
   * @param broken paths; of the others only what was found is asked again
   */
  causes(paths: readonly Path[], broken: readonly Path[], now = performance.now()): Cause[] {
    const underlays = (some: readonly Path[]): Set<string> =>
      new Set(some.filter(isOpen).map(({ probe }) => probe.underlay.toString()));
    const own = this.options.own().ips.map(String);
    const [known, inQuestion] = [underlays(paths), underlays(broken)];
    return [...this.#found].flatMap(([ip, { problem }]): Cause[] => {
      const isMine = own.includes(ip);
      if (problem === undefined) {
        if (!(isMine ? broken.length > 0 : inQuestion.has(ip))) this.#found.delete(ip);
        return [];
      }
      if (!isMine && !known.has(ip)) this.#found.delete(ip);
      else void this.#look(ip, now);
      const explains = (path: Path): boolean =>
        isOpen(path) && (isMine || path.probe.underlay.toString() === ip);
      return [{ key: isMine ? OWN_ADDRESS.id : `neighbour ${ip}`, problem, explains }];
    });
  }
}

const ownProblem = (ip: string, link: string, macs: readonly string[]): Problem | undefined =>
  macs.length === 0
    ? undefined
    : {
        what: addressText(ip),
        why: `it is this node's, and another host answers for it, too, on ${link}, with the link address ${macs.join(' and ')}`,
        fix: GIVE_ANOTHER,
      };
