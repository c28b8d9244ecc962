// Firewall driver for nftables: the tables `inet weft` and `bridge weft`.
//
// It is written through libnftables in this process. Without drift a comparison starts no process, and where the ruleset
// generation has not changed it lists nothing.
import type { Family } from '../../../core/address.js';
import { failedPrecondition, messageOf } from '../../../core/errors.js';
import type { Firewall, FirewallChange, FirewallItem } from '../../../core/firewall.js';
import { Mutex } from '../../../core/keyed-mutex.js';
import type { PolicyRules } from '../../../core/policy/index.js';
import { NetlinkSocket } from '../netlink-socket.js';
import { AcceptKeeper } from './accept.js';
import { closedProblems, type Finding } from './closed.js';
import { mayClose, nftClosed, xtablesClosed } from './closed-tables.js';
import { forwardedFamilies, readFilter } from './forward.js';
import { compileBridgeRuleset } from './bridge-ruleset.js';
import { countedDenials, countedDrops, countedLosses } from './drops.js';
import { changeElements, type TableChange } from './element-messages.js';
import { elementChanges, elementsOf } from './elements.js';
import { RulesetProbe } from './ruleset-probe.js';
import { type Nftables, type NftObject } from './libnftables.js';
import { NftTable } from './nft-table.js';
import { renderReplacement, type Ruleset } from './rules.js';
import { compileRuleset } from './ruleset.js';
import type { FirewallLog, NodeFirewallDriver, DriverReport } from './types.js';
import { cleanEveryXtables, cleanXtables, hasOwnChain, leftover } from './xtables-clean.js';
import { legacyTables, type SavedTable } from './xtables.js';

const FAMILIES = [4, 6] as const;
/** The one chain that this driver has in the tables of the iptables family. */
const EXPECTED_CHAINS = ['WEFT-ACCEPT'];

/** The result of a comparison that found no difference. */
interface Settled {
  generation: number;
  desired: string;
  problems: DriverReport['problems'];
  /** What nf_tables drops; the tables of iptables-legacy are read each time. */
  closed: Finding[];
}

/** A desired state and the tables that it compiles to. */
interface DesiredRules {
  key: string;
  /** Key of everything but the items. */
  base: string;
  inet: Ruleset | undefined;
  bridge: Ruleset | undefined;
}

export class NftablesFirewall implements NodeFirewallDriver {
  readonly kind = 'nftables';
  readonly #nft: Nftables;
  readonly #probe = new RulesetProbe();
  readonly #socket = new NetlinkSocket('netfilter');
  readonly #inet: NftTable;
  /** Undefined where the kernel has no nf_tables for bridges. */
  readonly #bridge: NftTable | undefined;
  readonly #accept = new AcceptKeeper();
  readonly #mutex = new Mutex();
  #settled: Settled | undefined;
  /** What was last applied. */
  #placed: DesiredRules | undefined;
  /** The ruleset generation at which the tables last matched what was applied. */
  #known: number | undefined;
  #sweptLegacy = false;

  /** @param noBridge why the kernel does not take the table of the bridge family */
  constructor(
    nft: Nftables,
    private readonly log?: FirewallLog,
    readonly noBridge?: string,
  ) {
    this.#nft = nft;
    this.#inet = new NftTable('inet weft', nft, this.#probe, log);
    this.#bridge = noBridge === undefined ? new NftTable('bridge weft', nft, this.#probe, log) : undefined;
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
    const keep = desired.keepItems === true;
    return [
      ...this.#inet.difference(compileRuleset(desired), keep),
      ...(this.#bridge?.difference(compileBridgeRuleset(desired), keep) ?? []),
    ];
  }

  ensure(desired: Firewall, news?: FirewallChange): Promise<DriverReport> {
    return this.#mutex.run(() => {
      // What fails is found by the comparison.
      if (news !== undefined && news.added.length + news.removed.length > 0)
        this.#changeElements(desired, news.added, news.removed);
      return this.#ensure(desired);
    });
  }

  changeItems(
    desired: Firewall,
    added: readonly FirewallItem[],
    removed: readonly FirewallItem[],
  ): Promise<DriverReport> {
    return this.#mutex.run(() =>
      this.#changeElements(desired, added, removed)
        ? Promise.resolve({ repaired: [], applied: [], problems: this.#settled?.problems ?? [] })
        : this.#ensure(desired),
    );
  }

  drops(): ReturnType<typeof countedDrops> {
    return countedDrops(this.#nft, [this.#inet, this.#bridge]);
  }

  losses(link: string): ReturnType<typeof countedLosses> {
    return this.#bridge?.isThere === true ? countedLosses(this.#nft, link) : [];
  }

  denials(): ReturnType<typeof countedDenials> {
    return this.#inet.ruleset?.sets.has('denied4') === true && this.#inet.isThere
      ? countedDenials(this.#nft)
      : [];
  }

  /** Returns false where a table may have changed: then all of it must be compared. */
  #changeElements(
    desired: Firewall,
    added: readonly FirewallItem[],
    removed: readonly FirewallItem[],
  ): boolean {
    const generation = this.#known;
    const placed = this.#placed;
    if (generation === undefined || placed?.inet === undefined) return false;
    const base = baseKey(desired);
    if (placed.base !== base) return false;
    const [comes, goes] = [added.flatMap(elementsOf), removed.flatMap(elementsOf)];
    const changed: (TableChange & { placed: NftTable })[] = [];
    for (const table of [this.#inet, this.#bridge]) {
      if (table === undefined) continue;
      const changes = elementChanges(desired, comes, goes, table);
      if (changes.length === 0) continue;
      if (table.ruleset === undefined) return false;
      changed.push({ table: table.name, ruleset: table.ruleset, changes, placed: table });
    }
    if (!this.#write(generation, changed)) return false;
    placed.key = base + itemsKey(desired);
    // If another program has written meanwhile, the next comparison detects it.
    this.#known = generation + (changed.length === 0 ? 0 : 1);
    if (this.#settled?.generation === generation)
      this.#settled = { ...this.#settled, generation: this.#known, desired: placed.key };
    return true;
  }

  #write(generation: number, changed: readonly (TableChange & { placed: NftTable })[]): boolean {
    if (changed.length === 0) return true;
    try {
      changeElements(this.#socket, generation, changed);
    } catch (error) {
      this.log?.debug('elements rejected, comparing everything', { error: messageOf(error) });
      return false;
    }
    for (const { placed, changes } of changed) placed.changed(changes);
    return true;
  }

  async #ensure(desired: Firewall): Promise<DriverReport> {
    const families = forwardedFamilies(desired);
    const base = baseKey(desired);
    const key = base + itemsKey(desired);
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
        this.#placed?.key === key
          ? this.#placed
          : { key, base, inet: compileRuleset(desired), bridge: compileBridgeRuleset(desired) };
      // Read once: what is written from here on changes no chain that matters below.
      const chains = this.#nft.list('list chains');
      const writes = this.#ensureTables(rules, desired.keepItems === true, report);
      const written = report.repaired.length + report.applied.length;
      const seen = await this.#ensureAccepted(families, chains, report);
      const quiet = report.repaired.length + report.applied.length + report.problems.length === written;
      if (families.length > 0) closed.push(...(await this.#closedChains(families, chains, seen, desired)));
      // Where no other program wrote meanwhile, the tables are as this one has just written them.
      const now = generation === undefined ? undefined : generation + writes;
      if (quiet && now !== undefined && this.#known === now)
        this.#settled = {
          ...{ generation: now, desired: key },
          ...{ problems: closedProblems(closed), closed: [...closed] },
        };
    }
    await this.#ensureLegacy(families, desired, report, closed);
    report.problems.push(...closedProblems(closed));
    if (this.#settled !== undefined) this.#settled.problems = report.problems;
    return report;
  }

  /** @returns the number of transactions */
  #ensureTables(rules: DesiredRules, keepItems: boolean, report: DriverReport): number {
    const generation = this.#probe.generation();
    this.#known = undefined;
    const writes =
      this.#inet.ensure(rules.inet, keepItems, report) +
      (this.#bridge?.ensure(rules.bridge, keepItems, report) ?? 0);
    this.#placed = rules;
    if (generation !== undefined) {
      const after = generation + writes;
      this.#known = this.#probe.generation() === after ? after : undefined;
    }
    return writes;
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
      this.#inet.remove();
      this.#bridge?.remove();
      const nft = hasOwnChain(xtablesChains(this.#nft.list('list chains')));
      const { failures } = await cleanEveryXtables({ nft });
      if (failures.length > 0)
        throw failedPrecondition(`firewall: rules could not be removed: ${failures.join('; ')}`);
    });
  }

  close(): void {
    this.#nft.close();
    this.#probe.close();
    this.#socket.close();
  }
}

const baseKey = ({ policy, ...desired }: Firewall): string =>
  JSON.stringify({ ...desired, ports: undefined, itemsRevision: undefined }) +
  (policy === undefined ? '' : textOf(policy));

const itemsKey = ({ ports, containers, members, itemsRevision }: Firewall): string => {
  if (itemsRevision !== undefined) return `${itemsRevision}`;
  const all = [...(containers?.values() ?? []), ...(members?.values() ?? [])].map(textOf);
  return [...(ports?.keys() ?? []), ...all].join();
};

/** Of items and rules of policies, which never change. */
const texts = new WeakMap<FirewallItem | PolicyRules, string>();

function textOf(item: FirewallItem | PolicyRules): string {
  let text = texts.get(item);
  if (text === undefined) texts.set(item, (text = JSON.stringify(item)));
  return text;
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

/**
 * Checks without changing anything that this kernel supports weft's tables. @throws WeftError where it lacks that of inet
 * @returns why it does not take the table of the bridge family; undefined: it does
 */
export async function probeNftables(nft: Nftables, sample: Firewall): Promise<string | undefined> {
  const inet = renderReplacement('inet weft', compileRuleset(sample));
  const bridge = renderReplacement('bridge weft', compileBridgeRuleset(sample));
  try {
    await nft.check(inet + bridge);
    return undefined;
  } catch (error) {
    // One of the two, or both.
    await nft.check(inet);
    return messageOf(error);
  }
}
