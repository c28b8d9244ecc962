// Firewall driver for nftables: one table, `inet weft`.
//
// It is written through libnftables in this process. Without drift a comparison starts no process, and where the ruleset
// generation has not changed it lists nothing.
import type { Family } from '../../../core/address.js';
import { failedPrecondition, messageOf } from '../../../core/errors.js';
import type { Firewall, FirewallPort } from '../../../core/firewall.js';
import { Mutex } from '../../../core/keyed-mutex.js';
import { AcceptKeeper } from './accept.js';
import { closedProblems, type Finding } from './closed.js';
import { mayClose, nftClosed, xtablesClosed } from './closed-tables.js';
import { forwardedFamilies, readFilter } from './forward.js';
import { RulesetProbe } from './ruleset-probe.js';
import { type Nftables, type NftObject } from './libnftables.js';
import {
  compare,
  keepingPorts,
  parseListing,
  renderElements,
  type Difference,
  type Listing,
} from './listing.js';
import { compileRuleset, portElements, renderReplacement, TABLE, type Ruleset } from './ruleset.js';
import { sortWords, type FirewallLog, type NodeFirewallDriver, type DriverReport } from './types.js';
import { cleanEveryXtables, cleanXtables, hasOwnChain, leftover } from './xtables-clean.js';
import { legacyTables, type SavedTable } from './xtables.js';

const FAMILIES = [4, 6] as const;
/** The one chain that this driver has in the tables of the iptables family. */
const EXPECTED_CHAINS = ['WEFT-ACCEPT'];

const FLAGGED = `table ${TABLE}: flags that weft does not set`;

/** The result of a comparison that found no difference. */
interface Settled {
  generation: number;
  desired: string;
  problems: DriverReport['problems'];
  /** What nf_tables drops; the tables of iptables-legacy are read each time. */
  closed: Finding[];
}

/** A desired state and the table that it compiles to. */
interface DesiredRules {
  key: string;
  /** Key of everything but the ports. */
  base: string;
  ruleset: Ruleset | undefined;
}

export class NftablesFirewall implements NodeFirewallDriver {
  readonly kind = 'nftables';
  readonly #nft: Nftables;
  readonly #probe = new RulesetProbe();
  readonly #accept = new AcceptKeeper();
  readonly #mutex = new Mutex();
  readonly #log: FirewallLog | undefined;
  #settled: Settled | undefined;
  /** What was last applied, to tell drift from change. */
  #placed: DesiredRules | undefined;
  /** The ruleset generation at which the table last matched what was applied. */
  #known: number | undefined;
  /** The table's structure as read back after it was written. */
  #asWritten: string | undefined;
  #sweptLegacy = false;

  constructor(nft: Nftables, log?: FirewallLog) {
    this.#nft = nft;
    this.#log = log;
  }

  difference(desired: Firewall): Promise<string[]> {
    return this.#mutex.run(() => this.#difference(desired));
  }

  async #difference(desired: Firewall): Promise<string[]> {
    const families = forwardedFamilies(desired);
    const words = this.#tableDifference(desired);
    const chains = this.#nft.list('list chains');
    if (hasOwnChain(xtablesChains(chains), EXPECTED_CHAINS))
      words.push('rules of weft in the tables of iptables (nft) are not wanted');
    for (const family of FAMILIES) {
      const wanted = families.includes(family);
      const filter = readFilter(this.#nft, chains, family);
      if (filter !== undefined) words.push(...this.#accept.difference('nft', family, filter, wanted));
      const tables = legacyTables(family);
      if (!tables.includes('filter') && !tables.includes('nat')) continue;
      const legacy = await this.#accept.commands('legacy', family);
      const saved = await legacy?.save();
      if (legacy === undefined || saved === undefined) continue;
      if (hasOwnChain(ownedBy(saved), EXPECTED_CHAINS))
        words.push(`rules of weft in ${legacy.name} are not wanted`);
      const legacyFilter = saved.get('filter');
      if (legacyFilter !== undefined)
        words.push(...this.#accept.difference('legacy', family, legacyFilter, wanted));
    }
    return words;
  }

  #tableDifference(desired: Firewall): string[] {
    // Before the table is listed: libnftables ends the process over flags that it does not know (see Nftables.listTable).
    if (this.#hasFlags()) return [FLAGGED];
    const listing = this.#list();
    const compiled = compileRuleset(desired);
    const isKept = desired.keepPorts === true && listing !== undefined && compiled !== undefined;
    const wanted = isKept ? keepingPorts(compiled, listing) : compiled;
    return compare(listing, wanted, this.#asWritten).words;
  }

  #hasFlags(): boolean {
    return (this.#probe.tableFlags('inet', 'weft') ?? 0) !== 0;
  }

  ensure(desired: Firewall): Promise<DriverReport> {
    return this.#mutex.run(() => this.#ensure(desired));
  }

  changePorts(
    desired: Firewall,
    added: readonly FirewallPort[],
    removed: readonly FirewallPort[],
  ): Promise<DriverReport> {
    return this.#mutex.run(() =>
      this.#changeElements(desired, added, removed)
        ? Promise.resolve({ repaired: [], applied: [], problems: this.#settled?.problems ?? [] })
        : this.#ensure(desired),
    );
  }

  /** Returns false where the table may have changed: then all of it must be compared. */
  #changeElements(
    desired: Firewall,
    added: readonly FirewallPort[],
    removed: readonly FirewallPort[],
  ): boolean {
    const generation = this.#probe.generation();
    const placed = this.#placed;
    if (generation === undefined || generation !== this.#known || placed?.ruleset === undefined) return false;
    const base = baseKey(desired);
    if (placed.base !== base) return false;
    const { sets } = placed.ruleset;
    const changes = elementChanges(desired, added, removed, sets);
    try {
      if (changes.length > 0) this.#nft.run(renderElements(changes));
    } catch (error) {
      this.#log?.debug('elements rejected, comparing everything', { error: messageOf(error) });
      return false;
    }
    for (const { set, add, remove } of changes) {
      for (const element of remove) sets.get(set)?.elements.delete(element);
      for (const element of add) sets.get(set)?.elements.add(element);
    }
    placed.key = base + portsKey(desired);
    const settled = this.#settled?.generation === generation;
    const after = generation + (changes.length > 0 ? 1 : 0);
    // If another program has written at the same time, the next comparison detects it.
    this.#known = this.#probe.generation() === after ? after : undefined;
    if (this.#settled !== undefined && settled && this.#known !== undefined) {
      this.#settled = { ...this.#settled, generation: after, desired: placed.key };
    }
    return true;
  }

  async #ensure(desired: Firewall): Promise<DriverReport> {
    const families = forwardedFamilies(desired);
    const base = baseKey(desired);
    const key = base + portsKey(desired);
    const generation = this.#probe.generation();
    const report: DriverReport = { repaired: [], applied: [], problems: [] };
    const closed: Finding[] = [];
    if (
      generation !== undefined &&
      this.#settled?.generation === generation &&
      this.#settled.desired === key
    ) {
      closed.push(...this.#settled.closed);
    } else {
      this.#settled = undefined;
      const rules =
        this.#placed?.key === key ? this.#placed : { key, base, ruleset: compileRuleset(desired) };
      // Read once: what is written from here on changes no chain that matters below.
      const chains = this.#nft.list('list chains');
      this.#ensureTable(rules, desired.keepPorts === true, report);
      const seen = await this.#ensureAccepted(families, chains, report);
      const quiet = report.repaired.length + report.applied.length + report.problems.length === 0;
      if (families.length > 0) closed.push(...(await this.#closedChains(families, chains, seen, desired)));
      if (quiet && generation !== undefined)
        this.#settled = { generation, desired: key, problems: closedProblems(closed), closed: [...closed] };
    }
    await this.#ensureLegacy(families, desired, report, closed);
    report.problems.push(...closedProblems(closed));
    if (this.#settled !== undefined) this.#settled.problems = report.problems;
    return report;
  }

  #ensureTable(rules: DesiredRules, keepPorts: boolean, report: DriverReport): void {
    this.#unflag(report);
    const generation = this.#probe.generation();
    const listing = this.#list();
    if (keepPorts && listing !== undefined && rules.ruleset !== undefined) {
      rules.ruleset = keepingPorts(rules.ruleset, listing);
    }
    const difference = compare(listing, rules.ruleset, this.#asWritten);
    const drift =
      this.#placed === undefined ? [] : compare(listing, this.#placed.ruleset, this.#asWritten).words;
    this.#known = undefined;
    if (difference.words.length > 0) {
      this.#write(difference, rules.ruleset);
      this.#log?.debug('nftables written', { differences: difference.words });
    }
    this.#placed = rules;
    if (generation !== undefined) {
      const after = generation + (difference.words.length > 0 ? 1 : 0);
      this.#known = this.#probe.generation() === after ? after : undefined;
    }
    const { repaired, applied } = sortWords(difference.words, drift);
    report.repaired.push(...repaired);
    report.applied.push(...applied);
  }

  /** Flags such as dormant. They are cleared before anything else: the table's contents are worth keeping. */
  #unflag(report: DriverReport): void {
    if (!this.#hasFlags()) return;
    this.#nft.run(`add table ${TABLE}\n`);
    report.repaired.push(FLAGGED);
  }

  #write(difference: Difference, wanted: Ruleset | undefined): void {
    if (!difference.structural) {
      try {
        this.#nft.run(renderElements(difference.elements));
        return;
      } catch {
        // Some kernels reject deleting an interval and adding an overlapping one within one transaction.
      }
    }
    this.#nft.run(renderReplacement(wanted));
    this.#asWritten = wanted === undefined ? undefined : this.#list()?.structure;
  }

  #list(): Listing | undefined {
    return this.#probe.tableFlags('inet', 'weft') === undefined
      ? undefined
      : parseListing(this.#nft.listTable('inet', 'weft'));
  }

  /**
   * The tables of iptables-nft: they are nf_tables too, so they are read without starting iptables.
   * @returns what they held
   */
  async #ensureAccepted(
    families: readonly Family[],
    listed: readonly NftObject[],
    report: DriverReport,
  ): Promise<Map<Family, SavedTable>> {
    const seen = new Map<Family, SavedTable>();
    let chains = listed;
    if (hasOwnChain(xtablesChains(chains), EXPECTED_CHAINS)) {
      const { removed, failures } = await cleanEveryXtables({ nft: true, keep: 'legacy' });
      report.applied.push(...removed.map((what) => `${what} removed`));
      report.problems.push(...failures.map(leftover));
      chains = this.#nft.list('list chains');
    }
    for (const family of FAMILIES) {
      const filter = readFilter(this.#nft, chains, family);
      if (filter === undefined) continue;
      seen.set(family, filter);
      add(report, await this.#accept.ensure('nft', family, filter, families.includes(family)));
    }
    return seen;
  }

  /** What the tables of nf_tables drop, those of iptables-nft included. */
  async #closedChains(
    families: readonly Family[],
    chains: readonly NftObject[],
    seen: ReadonlyMap<Family, SavedTable>,
    desired: Firewall,
  ): Promise<Finding[]> {
    const found = nftClosed(this.#nft, chains, families, desired);
    for (const family of families) {
      const before = seen.get(family);
      if (before === undefined || !mayClose(before, desired, family)) continue;
      const xtables = await this.#accept.commands('nft', family);
      const filter = (await xtables?.save('filter'))?.get('filter');
      if (xtables !== undefined && filter !== undefined)
        found.push(...xtablesClosed(xtables, filter, desired));
    }
    return found;
  }

  /** The tables of iptables-legacy, where they are in use: nothing reports their changes, so they are read each time. */
  async #ensureLegacy(
    families: readonly Family[],
    desired: Firewall,
    report: DriverReport,
    closed: Finding[],
  ): Promise<void> {
    const sweep = !this.#sweptLegacy;
    for (const family of FAMILIES) {
      const tables = legacyTables(family);
      if (!tables.includes('filter') && !(sweep && tables.includes('nat'))) continue;
      const legacy = await this.#accept.commands('legacy', family);
      // Without the command no program can have changed the tables since boot either, other than by a binary of its own.
      if (legacy === undefined) continue;
      let saved = await legacy.save(sweep ? undefined : 'filter');
      if (sweep && hasOwnChain(ownedBy(saved), EXPECTED_CHAINS)) {
        await cleanXtables(legacy, saved);
        report.applied.push(`rules of weft in ${legacy.name} removed`);
        saved = await legacy.save('filter');
      }
      const filter = saved.get('filter');
      if (filter === undefined) continue;
      const wanted = families.includes(family);
      const before = report.applied.length + report.repaired.length;
      add(report, await this.#accept.ensure('legacy', family, filter, wanted));
      const isWritten = report.applied.length + report.repaired.length > before;
      const now = isWritten ? (await legacy.save('filter')).get('filter') : filter;
      if (wanted && now !== undefined) closed.push(...xtablesClosed(legacy, now, desired));
    }
    this.#sweptLegacy = true;
  }

  remove(): Promise<void> {
    return this.#mutex.run(async () => {
      this.#settled = undefined;
      this.#placed = undefined;
      this.#known = undefined;
      this.#asWritten = undefined;
      if (this.#probe.tableFlags('inet', 'weft') !== undefined) this.#nft.run(`delete table ${TABLE}\n`);
      const nft = hasOwnChain(xtablesChains(this.#nft.list('list chains')));
      const { failures } = await cleanEveryXtables({ nft });
      if (failures.length > 0)
        throw failedPrecondition(`firewall: rules could not be removed: ${failures.join('; ')}`);
    });
  }

  close(): void {
    this.#nft.close();
    this.#probe.close();
  }
}

const baseKey = (desired: Firewall): string => JSON.stringify({ ...desired, ports: undefined });

const portsKey = ({ ports }: Firewall): string => [...(ports?.keys() ?? [])].join();

/** The set changes for these ports; an element that another port needs stays. */
function elementChanges(
  desired: Firewall,
  added: readonly FirewallPort[],
  removed: readonly FirewallPort[],
  sets: Ruleset['sets'],
): Difference['elements'] {
  const bySet = new Map<string, Difference['elements'][number]>();
  const changeOf = (set: string): Difference['elements'][number] => {
    const change = bySet.get(set) ?? { set, add: [], remove: [] };
    bySet.set(set, change);
    return change;
  };
  const has = (set: string, element: string): boolean => sets.get(set)?.elements.has(element) === true;
  for (const { set, element } of removed.flatMap(portElements)) {
    const needed = (port: FirewallPort): boolean =>
      portElements(port).some((other) => other.set === set && other.element === element);
    // Elements of maps belong to one port each.
    const shared = !element.includes(' : ') && [...(desired.ports?.values() ?? [])].some(needed);
    if (!shared && has(set, element)) changeOf(set).remove.push(element);
  }
  for (const { set, element } of added.flatMap(portElements)) {
    if (!has(set, element) || changeOf(set).remove.includes(element)) changeOf(set).add.push(element);
  }
  for (const change of bySet.values()) {
    change.add = [...new Set(change.add)];
    change.remove = [...new Set(change.remove)];
  }
  return [...bySet.values()].filter(({ add, remove }) => add.length + remove.length > 0);
}

const xtablesChains = (chains: readonly NftObject[]): string[] =>
  chains.flatMap(({ chain }) =>
    chain !== undefined && chain.family !== 'inet' && ['filter', 'nat'].includes(chain.table)
      ? [chain.name]
      : [],
  );

const ownedBy = (saved: ReadonlyMap<string, SavedTable>): string[] =>
  ['filter', 'nat'].flatMap((table) => [...(saved.get(table)?.keys() ?? [])]);

function add(report: DriverReport, more: Pick<DriverReport, 'repaired' | 'applied' | 'problems'>): void {
  report.repaired.push(...more.repaired);
  report.applied.push(...more.applied);
  report.problems.push(...more.problems);
}

/** Checks without changing anything that this kernel supports weft's table. @throws WeftError FAILED_PRECONDITION */
export function probeNftables(nft: Nftables, sample: Ruleset | undefined): void {
  nft.check(renderReplacement(sample));
}
