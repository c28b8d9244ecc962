// The firewall as a target: rules of networks, and published ports.
//
// The driver compares the rule set and replaces it in one transaction: the plan is the whole set.
// Ports open and close by the thousand, each at its own cost. Calls must not overlap.
import type { Family } from '../../core/address.js';
import { messageOf } from '../../core/errors.js';
import {
  firewallPortKey,
  type ContainerPort,
  type Firewall,
  type FirewallChange,
  type FirewallItem,
  type FirewallMember,
  type FirewallPort,
} from '../../core/firewall.js';
import type { PolicyChange, PolicyItem, PolicyRules } from '../../core/policy/index.js';
import { FIREWALL, type Problem, type Problems } from '../health/index.js';
import type { FirewallReport, Kernel, KernelEvent } from '../kernel/index.js';
import { Drift, type DriftOptions, type Repair } from './drift.js';
import type { Applied, Target } from './target.js';

export interface FirewallTargetOptions extends DriftOptions {
  kernel: Kernel;
  problems: Problems;
  policies?: PolicySource | undefined;
}

/** The policies, which change beside all else of the firewall: each change of it takes what there is. */
export interface PolicySource {
  readonly hasNews: boolean;
  take(): { rules: PolicyRules | undefined; changes: readonly PolicyChange[] };
}

const NO_PORT_SECURITY = { scope: FIREWALL, kind: 'port-security' } as const;

/** What the driver is given. */
interface PlannedFirewall {
  desired: Firewall;
  /** The items of policies that it has not been given before; undefined: it is gone. */
  unwritten: ReadonlyMap<string, PolicyItem | undefined>;
  /** Of the policies, where nothing else of the items has changed since they were written. */
  news?: FirewallChange;
}

/** Drift counts all rules as one object: one flush deletes them all. */
const RULES = 'rules';

export class FirewallTarget implements Target<readonly Family[], PlannedFirewall> {
  readonly drift: Drift;
  /** The desired rules without the ports. */
  rules: Firewall = { networks: [] };
  /** Ports that an earlier run opened stay until the records are complete. */
  keepItems = true;
  readonly #ports = new Map<string, FirewallPort>();
  /** By link. */
  readonly #containers = new Map<string, ContainerPort>();
  readonly #members = new Map<string, FirewallMember>();
  /** See Firewall.itemsRevision. */
  #revision = 0;
  /** The one that the driver has been given. */
  #written = 0;
  readonly #policyItems = new Map<string, PolicyItem>();
  /** Those that have changed since the driver last wrote, as they were then. */
  readonly #unwritten = new Map<string, PolicyItem | undefined>();
  #policy: PolicyRules | undefined;

  constructor(private readonly options: FirewallTargetOptions) {
    this.drift = new Drift(options, FIREWALL);
  }

  /** The families of which bridged packets pass the rules. */
  observe(): Promise<readonly Family[]> {
    const { bridged = [] } = this.rules;
    return Promise.resolve(bridged.length === 0 ? [] : this.options.kernel.filteredBridges());
  }

  plan(bridged: readonly Family[]): PlannedFirewall {
    const isWritten = this.#revision === this.#written;
    this.#takePolicy();
    const news = this.#policyNews();
    return { ...this.#planned(bridged), ...(isWritten && { news }) };
  }

  #planned(bridged: readonly Family[]): PlannedFirewall {
    const unwritten = [...this.#unwritten.keys()].map((key) => [key, this.#policyItems.get(key)] as const);
    return { desired: this.#desired(bridged), unwritten: new Map(unwritten) };
  }

  #desired(bridged: readonly Family[]): Firewall {
    return {
      ...this.rules,
      ports: this.#ports,
      containers: this.#containers,
      members: this.#members,
      itemsRevision: this.#revision,
      keepItems: this.keepItems,
      bridged: [...bridged],
      ...(this.#policy !== undefined && {
        policy: this.#policy,
        policyItems: this.#policyItems,
      }),
    };
  }

  async apply(planned: PlannedFirewall): Promise<Applied> {
    const { firewall } = this.options.kernel;
    try {
      const report = await firewall.ensure(planned.desired, planned.news);
      this.#noteWritten(planned);
      return { repaired: this.#report(report), again: false };
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
    const bridged = await this.observe();
    this.#takePolicy();
    return this.options.kernel.firewall.difference(this.#desired(bridged));
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
      this.#revision++;
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
    await this.change({ added, removed: closed });
    this.options.kernel.flushConntrack(added, closed);
  }

  /** Sets what containers may send on these ports, and ends what was set of others. */
  noteContainers(ports: readonly ContainerPort[], gone: readonly string[]): Noted {
    return this.#note(this.#containers, [
      ...ports.map((port) => [port.link, port] as const),
      ...gone.map((link) => [link, undefined] as const),
    ]);
  }

  /** Sets the other nodes. */
  noteMembers(members: ReadonlyMap<string, FirewallMember>): Noted {
    const gone = [...this.#members.keys()].filter((key) => !members.has(key));
    return this.#note(this.#members, [...members, ...gone.map((key) => [key, undefined] as const)]);
  }

  #note<T extends FirewallItem>(
    items: Map<string, T>,
    changes: readonly (readonly [string, T | undefined])[],
  ): Noted {
    const before = this.#noteEach(items, changes);
    const added = [...before.keys()].map((key) => items.get(key)).filter((item) => item !== undefined);
    const removed = [...before.values()].filter((item) => item !== undefined);
    const rollback = (): void => {
      this.#revision++;
      before.forEach((item, key) => put(items, key, item));
    };
    return { added, removed, rollback };
  }

  /** @returns what was there of those that are others now */
  #noteEach<T extends FirewallItem>(
    items: Map<string, T>,
    changes: readonly (readonly [string, T | undefined])[],
  ): Map<string, T | undefined> {
    const before = new Map<string, T | undefined>();
    for (const [key, item] of changes) {
      const there = items.get(key);
      if (item === there || (item !== undefined && JSON.stringify(item) === JSON.stringify(there))) continue;
      before.set(key, there);
      put(items, key, item);
    }
    if (before.size > 0) this.#revision++;
    return before;
  }

  /** Applies changes that were noted, at their own cost. @throws WeftError with the firewall's error */
  async change({ added, removed }: FirewallChange): Promise<void> {
    const bridged = await this.observe();
    this.#takePolicy();
    const policy = this.#policyNews();
    const planned = this.#planned(bridged);
    const report = await this.options.kernel.firewall.changeItems(
      planned.desired,
      [...added, ...policy.added],
      [...removed, ...policy.removed],
    );
    this.#noteWritten(planned);
    this.drift.note(this.#report(report));
  }

  /** What has come while the driver wrote is not written. */
  #noteWritten({ desired, unwritten }: PlannedFirewall): void {
    this.#written = desired.itemsRevision ?? 0;
    for (const [key, item] of unwritten) {
      if (this.#policyItems.get(key) === item) this.#unwritten.delete(key);
      else this.#unwritten.set(key, item);
    }
  }

  get hasNews(): boolean {
    return this.#revision !== this.#written || this.options.policies?.hasNews === true;
  }

  #takePolicy(): void {
    const { policies } = this.options;
    if (policies === undefined) return;
    const { rules, changes } = policies.take();
    if (rules !== this.#policy) this.#revision++;
    this.#policy = rules;
    for (const [key, there] of this.#noteEach(this.#policyItems, changes))
      if (!this.#unwritten.has(key)) this.#unwritten.set(key, there);
  }

  /** What the driver has to write yet, also where it could not before. */
  #policyNews(): FirewallChange {
    const added = [...this.#unwritten.keys()].flatMap((key) => this.#policyItems.get(key) ?? []);
    const removed = [...this.#unwritten.values()].filter((item) => item !== undefined);
    return { added, removed };
  }

  #report({ repaired, problems }: FirewallReport): Repair[] {
    this.#setProblems(problems);
    this.#warn();
    if (repaired.length === 0) return [];
    return [{ key: RULES, found: repaired, what: `the ${this.options.kernel.firewall.kind} rules` }];
  }

  /** What the firewall does not do, while somebody relies on it. */
  #warn(): void {
    const { problems, kernel } = this.options;
    const { noBridge, kind } = kernel.firewall;
    const isWanted = [...this.#containers.values()].some(({ bounds }) => bounds !== undefined);
    if (noBridge === undefined || !isWanted) return problems.clear(NO_PORT_SECURITY);
    problems.set(NO_PORT_SECURITY, {
      what: 'port security',
      why: `containers can send with addresses that are not theirs, and any number of DNS queries: ${noBridge}`,
      fix:
        kind === 'iptables'
          ? 'Use nftables (apt-get install nftables, and --firewall auto); or say that it is not wanted: weft network update NAME --port-security off.'
          : 'Use a kernel with nf_tables for bridges (NF_TABLES_BRIDGE); or say that it is not wanted: weft network update NAME --port-security off.',
    });
  }

  #setProblems(problems: readonly Problem[]): void {
    const byWhat = new Map(problems.map((problem) => [problem.what, problem]));
    this.options.problems.replace(FIREWALL, 'rules', byWhat);
  }
}

/** Items that were noted: the change, and how to take it back. */
export interface Noted extends FirewallChange {
  rollback: () => void;
}

function put<T>(items: Map<string, T>, key: string, item: T | undefined): void {
  if (item === undefined) items.delete(key);
  else items.set(key, item);
}
