// IPv6 addresses of this host that another host of the link has, too.
//
// The kernel does not use them, and hears nothing from the hosts that have them rightly. Where one of those is a node, its
// link address is resolved in the kernel's place, so that the tunnels to it stay up until somebody removes the address.
import { messageOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { View } from '../../store/store.js';
import { type Problem, type Problems, UNDERLAY } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';

export interface DuplicateAddressesOptions {
  kernel: Pick<Kernel, 'underlayLinks' | 'solicitNeighbour'>;
  view: Pick<View, 'nodes'>;
  problems: Problems;
  log: Pick<Logger, 'debug'>;
}

/** Shorter than a resolved neighbour may be used for: half of the kernel's 30 s (RFC 4861 §6.3.2). */
const EVERY_MS = 5000;

export class DuplicateAddresses {
  #timer: NodeJS.Timeout | undefined;
  #looking: Promise<void> | undefined;

  constructor(private readonly options: DuplicateAddressesOptions) {}

  start(): void {
    this.#timer = setInterval(() => void this.look(), EVERY_MS);
    void this.look();
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#looking;
  }

  /** Called at every change of an address, too. */
  look(): Promise<void> {
    return (this.#looking ??= this.#look().finally(() => {
      this.#looking = undefined;
    }));
  }

  async #look(): Promise<void> {
    const { kernel, view, problems, log } = this.options;
    try {
      const found = new Map<string, Problem>();
      for (const { name: link, flaws = {} } of await kernel.underlayLinks()) {
        for (const [text, flaw] of Object.entries(flaws)) {
          if (flaw !== 'duplicate') continue;
          const [ip = ''] = text.split('/');
          const owner = [...view.nodes.values()].find(({ publicIp6 }) => publicIp6 === ip)?.name;
          if (owner !== undefined) await kernel.solicitNeighbour(link, ip);
          found.set(`${link} ${text}`, problemOf(link, text, owner));
        }
      }
      problems.replace(UNDERLAY, 'duplicate-address', found);
    } catch (error) {
      log.debug('cannot look for duplicate addresses', { error: messageOf(error) });
    }
  }
}

const problemOf = (link: string, address: string, owner: string | undefined): Problem => ({
  what: `address ${address} of ${link}`,
  why: `${owner === undefined ? 'another host of the link' : `node ${owner}`} has it, too: duplicate address detection has failed (dadfailed), and the kernel of this host cannot reach that host by it`,
  fix: `Remove it: ip addr del ${address} dev ${link}; and from where it is configured.`,
});
