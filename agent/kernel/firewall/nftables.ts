// The firewall by nftables: one table of weft's own, `inet weft`, written through libnftables in this process. While all
// is well, a comparison starts no process, and where the ruleset has not moved since the last one it lists nothing.
import type { Family } from '../../../core/address.js';
import { failedPrecondition } from '../../../core/errors.js';
import type { Firewall } from '../../../core/firewall.js';
import { AcceptKeeper } from './accept.js';
import { foreignProblems, readFilter } from './forward.js';
import { RulesetGeneration } from './generation.js';
import { type Nftables, type NftObject } from './libnftables.js';
import { compare, parseListing, renderElements, type Difference, type Listing } from './listing.js';
import { compileRuleset, renderReplacement, TABLE, type Ruleset } from './ruleset.js';
import {
  Serial,
  sortWords,
  type FirewallLog,
  type NodeFirewall,
  type NodeFirewallReport,
  type Problem,
} from './types.js';
import { cleanEveryXtables, cleanXtables, hasOwnChain, leftover } from './xtables-clean.js';
import { legacyTables, type SavedTable } from './xtables.js';

const FAMILIES = [4, 6] as const;
/** The one chain that this driver has in the tables of the iptables family. */
const EXPECTED_CHAINS = ['WEFT-ACCEPT'];

/** A comparison after which everything was in place. */
interface Settled {
  generation: number;
  desired: string;
  problems: Problem[];
}

/** A desired state and what it compiles to. */
interface Wish {
  key: string;
  ruleset: Ruleset | undefined;
}

export class NftablesFirewall implements NodeFirewall {
  readonly kind = 'nftables';
  readonly #nft: Nftables;
  readonly #generation = new RulesetGeneration();
  readonly #accept = new AcceptKeeper();
  readonly #serial = new Serial();
  readonly #log: FirewallLog | undefined;
  #settled: Settled | undefined;
  /** What was last put in place, to tell drift from change. */
  #placed: Wish | undefined;
  /** The table's structure as it was read back after it was written. */
  #asWritten: string | undefined;
  #sweptLegacy = false;

  constructor(nft: Nftables, log?: FirewallLog) {
    this.#nft = nft;
    this.#log = log;
  }

  ensure(desired: Firewall): Promise<NodeFirewallReport> {
    return this.#serial.run(() => this.#ensure(desired));
  }

  async #ensure(desired: Firewall): Promise<NodeFirewallReport> {
    const families = FAMILIES.filter((family) =>
      desired.networks.some(({ prefixes }) => prefixes.some((prefix) => prefix.family === family)),
    );
    const key = JSON.stringify(desired.networks);
    const generation = this.#generation.read();
    const report: NodeFirewallReport = { repaired: [], applied: [], problems: [] };
    if (
      generation !== undefined &&
      this.#settled?.generation === generation &&
      this.#settled.desired === key
    ) {
      report.problems.push(...this.#settled.problems);
    } else {
      this.#settled = undefined;
      const wish = this.#placed?.key === key ? this.#placed : { key, ruleset: compileRuleset(desired) };
      // Read once: what is written from here on changes none of the chains that matter below.
      const chains = this.#nft.list('list chains');
      this.#ensureTable(wish, report);
      await this.#ensureAccepted(families, chains, report);
      const quiet = report.repaired.length + report.applied.length + report.problems.length === 0;
      const problems = desired.networks.length === 0 ? [] : foreignProblems(this.#nft, chains, families);
      report.problems.push(...problems);
      if (quiet && generation !== undefined) this.#settled = { generation, desired: key, problems };
    }
    await this.#ensureLegacy(families, report);
    return report;
  }

  #ensureTable(wish: Wish, report: NodeFirewallReport): void {
    const listing = this.#list();
    const difference = compare(listing, wish.ruleset, this.#asWritten);
    const drift =
      this.#placed === undefined ? [] : compare(listing, this.#placed.ruleset, this.#asWritten).words;
    if (difference.words.length > 0) {
      this.#write(difference, wish.ruleset);
      this.#log?.debug('nftables written', { differences: difference.words });
    }
    this.#placed = wish;
    const { repaired, applied } = sortWords(difference.words, drift);
    report.repaired.push(...repaired);
    report.applied.push(...applied);
  }

  #write(difference: Difference, wanted: Ruleset | undefined): void {
    if (!difference.structural) {
      try {
        this.#nft.run(renderElements(difference.elements));
        return;
      } catch {
        // Some kernels refuse to take an interval out and put one that overlaps it in within one transaction.
      }
    }
    this.#nft.run(renderReplacement(wanted));
    this.#asWritten = wanted === undefined ? undefined : this.#list()?.structure;
  }

  #list(): Listing | undefined {
    const there = this.#nft
      .list('list tables')
      .some(({ table }) => table?.family === 'inet' && table.name === 'weft');
    return there ? parseListing(this.#nft.list(`list table ${TABLE}`)) : undefined;
  }

  /** The tables of iptables-nft: they are nf_tables too, so they are read without starting iptables. */
  async #ensureAccepted(
    families: readonly Family[],
    listed: readonly NftObject[],
    report: NodeFirewallReport,
  ): Promise<void> {
    let chains = listed;
    if (hasOwnChain(xtablesChains(chains), EXPECTED_CHAINS)) {
      const { removed, failures } = await cleanEveryXtables({ nft: true, keep: 'legacy' });
      report.applied.push(...removed.map((what) => `${what} removed`));
      report.problems.push(...failures.map(leftover));
      chains = this.#nft.list('list chains');
    }
    for (const family of FAMILIES) {
      const filter = readFilter(this.#nft, chains, family);
      if (filter !== undefined) {
        add(report, await this.#accept.ensure('nft', family, filter, families.includes(family)));
      }
    }
  }

  /** The tables of iptables-legacy, where they are in use: nothing tells when they change, so they are read each time. */
  async #ensureLegacy(families: readonly Family[], report: NodeFirewallReport): Promise<void> {
    const sweep = !this.#sweptLegacy;
    for (const family of FAMILIES) {
      const tables = legacyTables(family);
      if (!tables.includes('filter') && !(sweep && tables.includes('nat'))) continue;
      const legacy = await this.#accept.commands('legacy', family);
      // Without the command nobody can have closed the tables since boot either, other than by one of his own.
      if (legacy === undefined) continue;
      let saved = await legacy.save(sweep ? undefined : 'filter');
      if (sweep && hasOwnChain(ownedBy(saved), EXPECTED_CHAINS)) {
        await cleanXtables(legacy, saved);
        report.applied.push(`rules of weft in ${legacy.name} removed`);
        saved = await legacy.save('filter');
      }
      const filter = saved.get('filter');
      if (filter !== undefined) {
        add(report, await this.#accept.ensure('legacy', family, filter, families.includes(family)));
      }
    }
    this.#sweptLegacy = true;
  }

  remove(): Promise<void> {
    return this.#serial.run(async () => {
      this.#settled = undefined;
      this.#placed = undefined;
      this.#asWritten = undefined;
      if (this.#list() !== undefined) this.#nft.run(`delete table ${TABLE}\n`);
      const nft = hasOwnChain(xtablesChains(this.#nft.list('list chains')));
      const { failures } = await cleanEveryXtables({ nft });
      if (failures.length > 0) throw failedPrecondition(`firewall: rules are left: ${failures.join('; ')}`);
    });
  }

  close(): void {
    this.#nft.close();
    this.#generation.close();
  }
}

const xtablesChains = (chains: readonly NftObject[]): string[] =>
  chains.flatMap(({ chain }) =>
    chain !== undefined && chain.family !== 'inet' && ['filter', 'nat'].includes(chain.table)
      ? [chain.name]
      : [],
  );

const ownedBy = (saved: ReadonlyMap<string, SavedTable>): string[] =>
  ['filter', 'nat'].flatMap((table) => [...(saved.get(table)?.keys() ?? [])]);

function add(
  report: NodeFirewallReport,
  more: Pick<NodeFirewallReport, 'repaired' | 'applied' | 'problems'>,
): void {
  report.repaired.push(...more.repaired);
  report.applied.push(...more.applied);
  report.problems.push(...more.problems);
}

/** Whether this kernel can hold weft's table; asked without changing anything. @throws WeftError FAILED_PRECONDITION */
export function probeNftables(nft: Nftables, sample: Ruleset | undefined): void {
  nft.check(renderReplacement(sample));
}
