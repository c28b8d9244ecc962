// One nftables table of weft's: compared with the kernel's, and written in one transaction.
import type { Nftables } from './libnftables.js';
import {
  compare,
  keepingItems,
  parseListing,
  type AsWritten,
  type Difference,
  type Listing,
} from './listing.js';
import {
  renderElements,
  renderReplacement,
  type ElementChange,
  type Ruleset,
  type TableName,
} from './rules.js';
import type { RulesetProbe } from './ruleset-probe.js';
import { sortWords, type DriverReport, type FirewallLog } from './types.js';

export class NftTable {
  /** What was last applied, to tell drift from change; undefined before the first time. */
  #placed: { ruleset: Ruleset | undefined } | undefined;
  /** The table's structure as read back after it was written. */
  #asWritten: AsWritten | undefined;

  constructor(
    readonly name: TableName,
    private readonly nft: Nftables,
    private readonly probe: RulesetProbe,
    private readonly log: FirewallLog | undefined,
  ) {}

  get ruleset(): Ruleset | undefined {
    return this.#placed?.ruleset;
  }

  get isThere(): boolean {
    return this.#flags() !== undefined;
  }

  /** What ensure would put right, in words. */
  difference(compiled: Ruleset | undefined, keepItems: boolean): string[] {
    // Before the table is listed: libnftables ends the process over flags that it does not know (see Nftables.listTable).
    if (this.#isFlagged()) return [this.#flagged()];
    const listing = this.#list();
    const isKept = keepItems && listing !== undefined && compiled !== undefined;
    const wanted = isKept ? keepingItems(compiled, listing) : compiled;
    return compare(this.name, listing, wanted, this.#asWritten).words;
  }

  /**
   * Compares and, where anything differs, writes. @returns the number of transactions
   * @throws WeftError FAILED_PRECONDITION where the kernel rejects the table
   */
  ensure(compiled: Ruleset | undefined, keepItems: boolean, report: DriverReport): number {
    let writes = this.#unflag(report);
    const listing = this.#list();
    const isKept = keepItems && listing !== undefined && compiled !== undefined;
    const wanted = isKept ? keepingItems(compiled, listing) : compiled;
    const difference = compare(this.name, listing, wanted, this.#asWritten);
    const drift =
      this.#placed === undefined
        ? []
        : compare(this.name, listing, this.#placed.ruleset, this.#asWritten).words;
    if (difference.words.length > 0) {
      this.#write(difference, wanted);
      writes++;
      this.log?.debug('nftables written', { table: this.name, differences: difference.words });
    }
    this.#placed = { ruleset: wanted };
    const { repaired, applied } = sortWords(difference.words, drift);
    report.repaired.push(...repaired);
    report.applied.push(...applied);
    return writes;
  }

  /** Notes changes of elements that were written. */
  changed(changes: readonly ElementChange[]): void {
    const sets = this.ruleset?.sets;
    for (const { set, add, remove } of changes) {
      for (const element of remove) sets?.get(set)?.elements.delete(element);
      for (const element of add) sets?.get(set)?.elements.add(element);
    }
  }

  remove(): void {
    this.#placed = undefined;
    this.#asWritten = undefined;
    if (this.isThere) this.nft.run(`delete table ${this.name}\n`);
  }

  /** Flags such as dormant. They are cleared before anything else: the table's contents are worth keeping. */
  #unflag(report: DriverReport): number {
    if (!this.#isFlagged()) return 0;
    this.nft.run(`add table ${this.name}\n`);
    report.repaired.push(this.#flagged());
    return 1;
  }

  #write(difference: Difference, wanted: Ruleset | undefined): void {
    if (!difference.structural) {
      try {
        this.nft.run(renderElements(this.name, difference.elements));
        return;
      } catch {
        // Some kernels reject deleting an interval and adding an overlapping one within one transaction.
      }
    }
    this.nft.run(renderReplacement(this.name, wanted));
    const structure = this.#structure();
    this.#asWritten =
      wanted === undefined || structure === undefined ? undefined : { structure, chains: wanted.chains };
  }

  #list(): Listing | undefined {
    const [family, table] = this.#parts();
    return this.isThere ? parseListing(this.name, this.nft.listTable(family, table)) : undefined;
  }

  /** There may be thousands of elements. */
  #structure(): string | undefined {
    const objects = this.isThere ? this.nft.listTable(...this.#parts(), { elements: false }) : undefined;
    return objects && parseListing(this.name, objects).structure;
  }

  #flags(): number | undefined {
    return this.probe.tableFlags(...this.#parts());
  }

  #isFlagged(): boolean {
    return (this.#flags() ?? 0) !== 0;
  }

  #flagged(): string {
    return `table ${this.name}: flags that weft does not set`;
  }

  #parts(): ['inet' | 'bridge', string] {
    return this.name === 'inet weft' ? ['inet', 'weft'] : ['bridge', 'weft'];
  }
}
