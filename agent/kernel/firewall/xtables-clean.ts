// Deletes weft's rules from the tables of the iptables family.
//
// At the end, and after a change of the driver.
import { type Family } from '../../../core/address.js';
import { messageOf } from '../../../core/errors.js';
import type { Problem } from './types.js';
import { NOTHING, OWN_PREFIX, planTable } from './xtables-plan.js';
import { findXtables, legacyTables, type SavedTable, type Variant, type Xtables } from './xtables.js';

/** The tables that weft writes. */
const TABLES = ['filter', 'nat'] as const;

/** Deletes every chain of weft's and the jumps to them. Returns whether there were any. */
export async function cleanXtables(
  xtables: Xtables,
  saved: ReadonlyMap<string, SavedTable>,
): Promise<boolean> {
  const scripts = TABLES.flatMap((table) => planTable(table, saved.get(table), NOTHING).script ?? []);
  for (const script of scripts) await xtables.restore(script);
  return scripts.length > 0;
}

/** The accept of a closed host, which belongs into the tables of every kind (see accept.ts). */
const ACCEPT = ['WEFT-ACCEPT'];

/** Whether a table has a chain of weft's that is none of `expected`. */
export const hasOwnChain = (chains: Iterable<string>, expected: readonly string[] = []): boolean =>
  [...chains].some((chain) => chain.startsWith(OWN_PREFIX) && !expected.includes(chain));

/**
 * The same for every iptables variant on the host, except `keep`. Continues after failures.
 * @returns the reasons why something may remain
 */
export async function cleanEveryXtables(options: {
  nft: boolean;
  keep?: Variant;
}): Promise<{ removed: string[]; failures: string[] }> {
  const removed: string[] = [];
  const failures: string[] = [];
  for (const variant of ['nft', 'legacy'] as const) {
    if (variant === options.keep || (variant === 'nft' && !options.nft)) continue;
    for (const family of [4, 6] as const) {
      if (variant === 'legacy' && !legacyInUse(family)) continue;
      try {
        const xtables = await findXtables(family, variant);
        if (xtables === undefined) continue;
        if (await cleanXtables(xtables, await xtables.save()))
          removed.push(`rules of weft in ${xtables.name}`);
      } catch (error) {
        failures.push(messageOf(error));
      }
    }
  }
  return { removed, failures };
}

/** Every kind of iptables on the host, except `keep`, whose tables hold something of weft's. Changes nothing. */
export async function otherOwners({ nft, keep }: { nft: boolean; keep: Variant }): Promise<Xtables[]> {
  const found: Xtables[] = [];
  for (const variant of ['nft', 'legacy'] as const) {
    if (variant === keep || (variant === 'nft' && !nft)) continue;
    for (const family of [4, 6] as const) {
      const xtables =
        variant === 'legacy' && !legacyInUse(family) ? undefined : await findXtables(family, variant);
      if (xtables === undefined) continue;
      const saved = await xtables.save();
      if (TABLES.some((table) => hasOwnChain(saved.get(table)?.keys() ?? [], ACCEPT))) found.push(xtables);
    }
  }
  return found;
}

const legacyInUse = (family: Family): boolean =>
  legacyTables(family).some((table) => table === 'filter' || table === 'nat');

export const leftover = (why: string): Problem => ({
  what: 'rules of weft in the iptables tables',
  why,
  fix: 'Another firewall driver left them; remove the chains WEFT-… and the jumps to them.',
});
