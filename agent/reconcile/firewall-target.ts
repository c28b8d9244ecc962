// The firewall as a target: rules of networks, and published ports.
//
// The driver compares the rule set and replaces it in one transaction: the plan is the whole set.
// Ports open and close by the thousand, each at its own cost. Calls must not overlap.
import type { Family } from '../../core/address.js';
import { messageOf } from '../../core/errors.js';
import { firewallPortKey, type Firewall, type FirewallPort } from '../../core/firewall.js';
import { FIREWALL, type Problem, type Problems } from '../health/index.js';
import type { FirewallReport, Kernel, KernelEvent } from '../kernel/index.js';
import { Drift, type DriftOptions, type Repair } from './drift.js';
import type { Applied, Target } from './target.js';

export interface FirewallTargetOptions extends DriftOptions {
  kernel: Kernel;
  problems: Problems;
}

/** Drift counts all rules as one object: one flush deletes them all. */
const RULES = 'rules';

export class FirewallTarget implements Target<readonly Family[], Firewall> {
  readonly drift: Drift;
  /** The desired rules without the ports. */
  rules: Firewall = { networks: [] };
  /** Ports that an earlier run opened stay until the records are complete. */
  keepPorts = true;
  readonly #ports = new Map<string, FirewallPort>();

  constructor(private readonly options: FirewallTargetOptions) {
    this.drift = new Drift(options, FIREWALL);
  }

  /** The families of which bridged packets pass the rules. */
  observe(): Promise<readonly Family[]> {
    const { bridged = [] } = this.rules;
    return Promise.resolve(bridged.length === 0 ? [] : this.options.kernel.filteredBridges());
  }

  plan(bridged: readonly Family[]): Firewall {
    return { ...this.rules, ports: this.#ports, keepPorts: this.keepPorts, bridged: [...bridged] };
  }

  async apply(rules: Firewall): Promise<Applied> {
    const { firewall } = this.options.kernel;
    try {
      return { repaired: this.#report(await firewall.ensure(rules)), again: false };
    } catch (error) {
      this.#setProblems([
        {
          what: `the ${firewall.kind} rules`,
          why: messageOf(error),
          fix: 'It is tried again every 10 seconds; try the other kind with --firewall.',
        },
      ]);
      return { repaired: [], again: false };
    }
  }

  /** What apply would change, in words; see FirewallDriver.difference. @throws WeftError FAILED_PRECONDITION */
  async difference(): Promise<string[]> {
    return this.options.kernel.firewall.difference(this.plan(await this.observe()));
  }

  /** Other programs change rules all day: a contested rule set waits for the regular comparison. */
  concerns(event: KernelEvent): boolean {
    return event.kind === 'firewall' && !this.drift.contested(RULES);
  }

  /**
   * Adds ports to, and removes them from, the desired rules.
   * @returns the closed ports that were open, and the rollback
   */
  notePorts(
    added: readonly FirewallPort[],
    removed: readonly FirewallPort[],
  ): { closed: FirewallPort[]; rollback: () => void } {
    const closed = removed.filter((port) => this.#ports.has(firewallPortKey(port)));
    const swap = (gone: readonly FirewallPort[], fresh: readonly FirewallPort[]): void => {
      for (const port of gone) this.#ports.delete(firewallPortKey(port));
      for (const port of fresh) this.#ports.set(firewallPortKey(port), port);
    };
    swap(closed, added);
    return { closed, rollback: () => swap(added, closed) };
  }

  /**
   * Opens and closes ports that notePorts was given, at their own cost.
   * @throws WeftError with the firewall's error
   */
  async changePorts(added: readonly FirewallPort[], closed: readonly FirewallPort[]): Promise<void> {
    const { kernel } = this.options;
    const rules = this.plan(await this.observe());
    this.drift.note(this.#report(await kernel.firewall.changePorts(rules, added, closed)));
    kernel.flushConntrack(added, closed);
  }

  #report({ repaired, problems }: FirewallReport): Repair[] {
    this.#setProblems(problems);
    if (repaired.length === 0) return [];
    return [{ key: RULES, found: repaired, what: `the ${this.options.kernel.firewall.kind} rules` }];
  }

  #setProblems(problems: readonly Problem[]): void {
    const byWhat = new Map(problems.map((problem) => [problem.what, problem]));
    this.options.problems.replace(FIREWALL, 'rules', byWhat);
  }
}
