// The firewall's rules as they should be now: what the memberships say, and the ports, of which there may be thousands and
// which come and go at their own cost. Whoever calls sees to it that calls come one after the other.
import { firewallPortKey, type Firewall, type FirewallPort } from '../../core/firewall.js';
import { messageOf } from '../../core/errors.js';
import type { FirewallReport, Kernel } from '../kernel/index.js';
import type { Problems } from '../health/index.js';

export interface DesiredFirewallOptions {
  kernel: Kernel;
  problems: Problems;
  /** Rules were found missing or changed, and are right again; all that one look has found. */
  onRepaired: (what: readonly string[]) => void;
}

export class DesiredFirewall {
  /** Everything but the ports. */
  wanted: Firewall = { networks: [] };
  readonly #ports = new Map<string, FirewallPort>();

  constructor(private readonly options: DesiredFirewallOptions) {}

  /**
   * Takes note of ports that open and close.
   * @returns those of the closed ones that were open, and how all of it is taken back
   */
  notePorts(
    added: readonly FirewallPort[],
    removed: readonly FirewallPort[],
  ): { closed: FirewallPort[]; rollback: () => void } {
    const closed = removed.filter((port) => this.#ports.has(firewallPortKey(port)));
    const swap = (goes: readonly FirewallPort[], comes: readonly FirewallPort[]): void => {
      for (const port of goes) this.#ports.delete(firewallPortKey(port));
      for (const port of comes) this.#ports.set(firewallPortKey(port), port);
    };
    swap(closed, added);
    return { closed, rollback: () => swap(added, closed) };
  }

  /**
   * Opens and closes ports of which note has been taken.
   * @param keepPorts see Firewall
   * @throws WeftError with what the firewall said
   */
  async changePorts(
    added: readonly FirewallPort[],
    closed: readonly FirewallPort[],
    keepPorts: boolean,
  ): Promise<void> {
    const { kernel } = this.options;
    this.#told(await kernel.firewall.changePorts(this.#all(keepPorts), added, closed));
    kernel.flushConntrack(added, closed);
  }

  /** Makes the rules right. What the firewall refuses becomes a problem. */
  async ensure(keepPorts: boolean): Promise<void> {
    const { firewall } = this.options.kernel;
    try {
      this.#told(await firewall.ensure(this.#all(keepPorts)));
    } catch (error) {
      const failed = {
        what: `the ${firewall.kind} rules`,
        why: messageOf(error),
        fix: 'It is tried again every 10 seconds; try the other kind with --firewall.',
      };
      this.options.problems.replace('firewall ', new Map([['firewall failed', failed]]));
    }
  }

  #all(keepPorts: boolean): Firewall {
    const { bridged = [] } = this.wanted;
    return {
      ...this.wanted,
      ports: this.#ports,
      keepPorts,
      bridged: bridged.length === 0 ? [] : this.options.kernel.filteredBridges(),
    };
  }

  #told({ repaired, problems }: FirewallReport): void {
    if (repaired.length > 0) this.options.onRepaired(repaired);
    this.options.problems.replace(
      'firewall ',
      new Map(problems.map((problem) => [`firewall ${problem.what}`, problem])),
    );
  }
}
