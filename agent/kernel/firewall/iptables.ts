// Firewall driver for iptables, for hosts without nftables.
//
// It writes chains of its own, WEFT-…, by one iptables-restore for each table, and compares them with the output of iptables-save.
import type { Family } from '../../../core/address.js';
import { failedPrecondition, messageOf } from '../../../core/errors.js';
import type { Firewall, FirewallItem } from '../../../core/firewall.js';
import type { FirewallDrops } from '../kernel.js';
import { Mutex } from '../../../core/keyed-mutex.js';
import { AcceptKeeper } from './accept.js';
import { closedProblems, type Finding } from './closed.js';
import { nftClosed, xtablesClosed } from './closed-tables.js';
import { forwardedFamilies, wantedAccept, withAccept } from './forward.js';
import { RulesetProbe } from './ruleset-probe.js';
import type { Nftables } from './libnftables.js';
import { sortWords, type FirewallLog, type NodeFirewallDriver, type DriverReport } from './types.js';
import { cleanEveryXtables, leftover, otherOwners } from './xtables-clean.js';
import { NOTHING, OWN_PREFIX, planTable, type WantedTable } from './xtables-plan.js';
import { compileTables, PORTS_CHAIN } from './xtables-rules.js';
import { legacyTables, type SavedTable, type Variant, type Xtables } from './xtables.js';

const FAMILIES = [4, 6] as const;
const TABLES = ['filter', 'nat'] as const;
type TableName = (typeof TABLES)[number];

/** What was last applied in one family. */
interface Placed {
  /** Including the accept on a host that drops forwarded packets. */
  tables: Record<TableName, WantedTable> | undefined;
  /** weft's chains as read back, by table and chain. */
  asWritten: Map<TableName, Map<string, string[]>>;
}

export class IptablesFirewall implements NodeFirewallDriver {
  readonly kind = 'iptables';
  readonly noBridge = 'iptables sees neither what a bridge forwards nor the network of a tunnel’s packet';
  readonly #commands: ReadonlyMap<Family, Xtables>;
  readonly #variant: Variant;
  readonly #probe = new RulesetProbe();
  readonly #accept = new AcceptKeeper();
  readonly #mutex = new Mutex();
  readonly #log: FirewallLog | undefined;
  readonly #placed = new Map<Family, Placed>();
  /** Read only: for leftovers of an nftables driver, and for unowned chains that drop. */
  readonly #nft: Nftables | undefined;
  /** With what nf_tables drops. */
  #settled: { generation: number; desired: string; closed: Finding[] } | undefined;
  /** The problems of the last comparison. */
  #last: DriverReport['problems'] | undefined;
  #swept = false;

  constructor(commands: ReadonlyMap<Family, Xtables>, nft: Nftables | undefined, log?: FirewallLog) {
    this.#commands = commands;
    this.#variant = commands.get(4)?.variant ?? 'legacy';
    this.#nft = nft;
    this.#log = log;
  }

  difference(desired: Firewall): Promise<string[]> {
    return this.#mutex.run(async () => {
      const families = forwardedFamilies(desired);
      const words = this.#nftTables().map((table) => `table ${table} is not wanted`);
      const others = await otherOwners({ nft: this.#probe.generation() !== undefined, keep: this.#variant });
      words.push(...others.map(({ name }) => `rules of weft in ${name} are not wanted`));
      for (const family of FAMILIES) {
        const forwards = families.includes(family);
        const found = await this.#lookAt(family, desired, forwards);
        const asWritten = this.#placed.get(family)?.asWritten;
        for (const name of found === undefined ? [] : TABLES) {
          const wanted = found?.tables?.[name] ?? NOTHING;
          const plan = planTable(name, found?.saved.get(name), wanted, asWritten?.get(name));
          words.push(...plan.words.map((word) => `${found?.xtables.name}: ${word}`));
        }
        const other: Variant = this.#variant === 'nft' ? 'legacy' : 'nft';
        const filter = await this.#otherFilter(other, family);
        if (filter !== undefined) words.push(...this.#accept.difference(other, family, filter, forwards));
      }
      return words;
    });
  }

  /** Undefined where that kind is not in use. */
  async #otherFilter(variant: Variant, family: Family): Promise<SavedTable | undefined> {
    if (variant === 'legacy' && !legacyTables(family).includes('filter')) return undefined;
    if (variant === 'nft' && this.#probe.generation() === undefined) return undefined;
    const xtables = await this.#accept.commands(variant, family);
    return (await xtables?.save('filter'))?.get('filter');
  }

  ensure(desired: Firewall): Promise<DriverReport> {
    return this.#mutex.run(() => this.#ensure(desired));
  }

  /** Writes the rules as a whole: the commands have no smaller operation that would be faster. */
  changeItems(
    desired: Firewall,
    added: readonly FirewallItem[],
    removed: readonly FirewallItem[],
  ): Promise<DriverReport> {
    // There are no rules of a container's port, nor of policies.
    const isNone = [...added, ...removed].every((item) => 'link' in item || 'policy' in item);
    if (isNone && this.#last !== undefined)
      return Promise.resolve({ repaired: [], applied: [], problems: this.#last });
    return this.ensure(desired);
  }

  drops(): FirewallDrops {
    return [];
  }

  losses(): FirewallDrops {
    return [];
  }

  denials(): [] {
    return [];
  }

  async #ensure(desired: Firewall): Promise<DriverReport> {
    const report: DriverReport = { repaired: [], applied: [], problems: [] };
    if (!this.#swept) await this.#sweep(report);
    const families = forwardedFamilies(desired);
    const key = JSON.stringify({
      ...desired,
      itemsRevision: undefined,
      ports: [...(desired.ports?.keys() ?? [])],
      members: [...(desired.members?.values() ?? [])],
    });
    // iptables-nft writes nf_tables, whose generation shows whether anything has changed; iptables-legacy has no such sign.
    const generation = this.#probe.generation();
    const settled =
      generation !== undefined && this.#settled?.generation === generation && this.#settled.desired === key
        ? this.#settled
        : undefined;
    const closed: Record<Variant, Finding[]> = { nft: [...(settled?.closed ?? [])], legacy: [] };
    if (this.#variant === 'legacy' || settled === undefined) {
      for (const family of FAMILIES)
        await this.#ensureFamily(family, desired, families.includes(family), report, closed[this.#variant]);
    }
    const other: Variant = this.#variant === 'nft' ? 'legacy' : 'nft';
    if (other === 'legacy' || settled === undefined) {
      for (const family of FAMILIES)
        await this.#ensureOther(other, family, families.includes(family), desired, report, closed[other]);
    }
    if (settled === undefined) {
      if (generation !== undefined && this.#nft !== undefined && families.length > 0)
        closed.nft.push(...nftClosed(this.#nft, this.#nft.list('list chains'), families, desired));
      const quiet = report.repaired.length + report.applied.length + report.problems.length === 0;
      this.#settled =
        quiet && generation !== undefined ? { generation, desired: key, closed: closed.nft } : undefined;
    }
    report.problems.push(...closedProblems([...closed.nft, ...closed.legacy]));
    this.#last = report.problems;
    return report;
  }

  /** @param forwards whether FORWARD sees any traffic of weft's links in this family */
  async #ensureFamily(
    family: Family,
    desired: Firewall,
    forwards: boolean,
    report: DriverReport,
    closed: Finding[],
  ): Promise<void> {
    const placed = this.#placed.get(family);
    // Nothing wanted, and nothing present since the first look: no process for an unused family.
    const isUsed = forwards || compileTables(desired, family) !== undefined;
    if (!isUsed && placed !== undefined && placed.tables === undefined) return;
    const found = await this.#lookAt(family, desired, forwards);
    if (found === undefined) return;
    const { xtables, saved, tables } = found;
    const changes: string[] = [];
    const drift: string[] = [];
    let written = false;
    for (const name of TABLES) {
      const asWritten = placed?.asWritten.get(name);
      const { script, words } = planTable(name, saved.get(name), tables?.[name] ?? NOTHING, asWritten);
      if (placed !== undefined) {
        drift.push(...planTable(name, saved.get(name), placed.tables?.[name] ?? NOTHING, asWritten).words);
      }
      if (script === undefined) continue;
      await xtables.restore(script);
      written = true;
      changes.push(...words);
      this.#log?.debug('iptables written', { command: xtables.name, table: name, differences: words });
    }
    const after = written ? await xtables.save() : saved;
    this.#placed.set(family, { tables, asWritten: ownChains(after) });
    const filter = after.get('filter');
    if (forwards && filter !== undefined) closed.push(...xtablesClosed(xtables, filter, desired));
    const named = (words: string[]): string[] => words.map((word) => `${xtables.name}: ${word}`);
    const { repaired, applied } = sortWords(named(changes), named(drift));
    report.repaired.push(...repaired);
    report.applied.push(...applied);
  }

  /**
   * What the tables of a family hold, and what weft wants there.
   * @returns undefined where the family has no tables, and needs none
   */
  async #lookAt(
    family: Family,
    desired: Firewall,
    forwards: boolean,
  ): Promise<{ xtables: Xtables; saved: Map<string, SavedTable>; tables: Placed['tables'] } | undefined> {
    const wanted = compileTables(desired, family);
    const isOptional = wanted === undefined || wanted.optional;
    const xtables = this.#commands.get(family);
    if (xtables === undefined) {
      if (isOptional) return undefined;
      throw failedPrecondition(
        'firewall: the command ip6tables does not exist, and a network has IPv6',
        'Install iptables.',
      );
    }
    let saved: Map<string, SavedTable>;
    try {
      saved = await xtables.save();
    } catch (error) {
      // A host without IPv6 has no tables for it.
      if (isOptional) return undefined;
      throw error;
    }
    const kept = desired.keepItems === true ? saved.get('nat') : undefined;
    const nat = kept?.has(PORTS_CHAIN) === true ? keepingPorts(desired, family, kept) : wanted?.nat;
    const tables = wanted === undefined || nat === undefined ? undefined : { nat, filter: wanted.filter };
    const accept = forwards ? wantedAccept(saved.get('filter')) : undefined;
    if (accept === undefined) return { xtables, saved, tables };
    const { nat: ownNat, filter } = tables ?? { nat: NOTHING, filter: NOTHING };
    return { xtables, saved, tables: { nat: ownNat, filter: withAccept(filter, accept) } };
  }

  /** The tables of the other iptables variant: weft has only its accept there, and only where they drop. */
  async #ensureOther(
    variant: Variant,
    family: Family,
    wanted: boolean,
    desired: Firewall,
    report: DriverReport,
    closed: Finding[],
  ): Promise<void> {
    if (variant === 'legacy' && !legacyTables(family).includes('filter')) return;
    if (variant === 'nft' && this.#probe.generation() === undefined) return;
    const xtables = await this.#accept.commands(variant, family);
    if (xtables === undefined) return;
    let filter: SavedTable | undefined;
    try {
      filter = (await xtables.save('filter')).get('filter');
    } catch (error) {
      const fix = 'weft checks whether it drops forwarded packets; run it by hand to see why it fails.';
      report.problems.push({ what: `${xtables.name}, table filter`, why: messageOf(error), fix });
      return;
    }
    if (filter === undefined) return;
    const { repaired, applied, problems } = await this.#accept.ensure(variant, family, filter, wanted);
    report.repaired.push(...repaired);
    report.applied.push(...applied);
    report.problems.push(...problems);
    const isWritten = repaired.length + applied.length > 0;
    const now = isWritten ? (await xtables.save('filter')).get('filter') : filter;
    if (wanted && now !== undefined) closed.push(...xtablesClosed(xtables, now, desired));
  }

  /** Deletes the leftovers of an agent with nftables, or with the other iptables variant. */
  async #sweep(report: DriverReport): Promise<void> {
    for (const table of this.#removeTables()) report.applied.push(`nftables: table ${table} removed`);
    const { removed, failures } = await cleanEveryXtables({
      nft: this.#probe.generation() !== undefined,
      keep: this.#variant,
    });
    report.applied.push(...removed.map((what) => `${what} removed`));
    report.problems.push(...failures.map(leftover));
    this.#swept = true;
  }

  /** Those of an agent with nftables. */
  #nftTables(): string[] {
    const isThere = (family: string): boolean => this.#probe.tableFlags(family, 'weft') !== undefined;
    return this.#nft === undefined
      ? []
      : ['inet', 'bridge'].filter(isThere).map((family) => `${family} weft`);
  }

  #removeTables(): string[] {
    const tables = this.#nftTables();
    this.#nft?.run(tables.map((table) => `delete table ${table}\n`).join(''));
    return tables;
  }

  remove(): Promise<void> {
    return this.#mutex.run(async () => {
      this.#settled = undefined;
      this.#placed.clear();
      this.#removeTables();
      const { failures } = await cleanEveryXtables({ nft: this.#probe.generation() !== undefined });
      if (failures.length > 0)
        throw failedPrecondition(`firewall: rules could not be removed: ${failures.join('; ')}`);
    });
  }

  close(): void {
    this.#nft?.close();
    this.#probe.close();
  }
}

/** The wanted table with further open ports: their records may still be arriving. */
function keepingPorts(desired: Firewall, family: Family, saved: SavedTable): WantedTable | undefined {
  const wanted = compileTables(desired, family, true)?.nat;
  if (wanted === undefined) return undefined;
  const portOf = (rule: string): string => /^.*?--dport \d+/.exec(rule)?.[0] ?? rule;
  const want = wanted.chains.get(PORTS_CHAIN) ?? [];
  const known = new Set(want.map(portOf));
  const kept = (saved.get(PORTS_CHAIN)?.rules ?? []).filter((rule) => !known.has(portOf(rule)));
  return { chains: new Map([...wanted.chains, [PORTS_CHAIN, [...want, ...kept]]]), jumps: wanted.jumps };
}

function ownChains(saved: ReadonlyMap<string, SavedTable>): Map<TableName, Map<string, string[]>> {
  return new Map(
    TABLES.map((table) => [
      table,
      new Map(
        [...(saved.get(table) ?? [])].flatMap(([chain, { rules }]): [string, string[]][] =>
          chain.startsWith(OWN_PREFIX) ? [[chain, rules]] : [],
        ),
      ),
    ]),
  );
}
