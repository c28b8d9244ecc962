// Accepts weft's links in iptables tables that drop forwarded packets.
//
// See forward.ts. It covers the tables of either variant that no other part of the driver maintains.
import type { Family } from '../../../core/address.js';
import { messageOf } from '../../../core/errors.js';
import { wantedAccept } from './forward.js';
import { sortWords, type Problem } from './types.js';
import { NOTHING, planTable } from './xtables-plan.js';
import { findXtables, type SavedTable, type Variant, type Xtables } from './xtables.js';

export interface AcceptOutcome {
  repaired: string[];
  applied: string[];
  problems: Problem[];
}

export class AcceptKeeper {
  /** Where the accept was put, by variant and family: if it is missing there later, that is drift. */
  readonly #placed = new Map<string, string>();
  readonly #commands = new Map<string, Promise<Xtables | undefined>>();

  /**
   * @param filter contents of the table; at least FORWARD, DOCKER-USER and weft's chains
   * @param wanted whether there are networks of this family
   */
  async ensure(
    variant: Variant,
    family: Family,
    filter: SavedTable | undefined,
    wanted: boolean,
  ): Promise<AcceptOutcome> {
    const key = `${variant} ${family}`;
    const { script, said, name, place } = planAccept(variant, family, filter, wanted);
    if (script === undefined) {
      this.#remember(key, place);
      return { repaired: [], applied: [], problems: [] };
    }
    const drift = place !== undefined && this.#placed.get(key) === place ? said : [];
    try {
      const xtables = await this.commands(variant, family);
      if (xtables === undefined) {
        return { repaired: [], applied: [], problems: [missing(name, family, variant)] };
      }
      await xtables.restore(script);
    } catch (error) {
      const problem = {
        what: `${name}, chain ${place ?? 'FORWARD'}`,
        why: `the rules that accept weft's links could not be ${place === undefined ? 'removed' : 'added'}: ${messageOf(error)}`,
        fix: 'weft retries by itself; run the command by hand to see why it fails.',
      };
      return { repaired: [], applied: [], problems: [problem] };
    }
    this.#remember(key, place);
    return { ...sortWords(said, drift), problems: [] };
  }

  /** What ensure would change, in words. */
  difference(...about: Parameters<typeof planAccept>): string[] {
    return planAccept(...about).said;
  }

  commands(variant: Variant, family: Family): Promise<Xtables | undefined> {
    const key = `${variant} ${family}`;
    let found = this.#commands.get(key);
    if (found === undefined) {
      found = findXtables(family, variant);
      this.#commands.set(key, found);
      // Checked again next time: it may be installed meanwhile.
      found.then(
        (xtables) => xtables === undefined && this.#commands.delete(key),
        () => this.#commands.delete(key),
      );
    }
    return found;
  }

  #remember(key: string, place: string | undefined): void {
    if (place === undefined) this.#placed.delete(key);
    else this.#placed.set(key, place);
  }
}

function planAccept(
  variant: Variant,
  family: Family,
  filter: SavedTable | undefined,
  wanted: boolean,
): { script: string | undefined; said: string[]; name: string; place: string | undefined } {
  const table = (wanted ? wantedAccept(filter) : undefined) ?? NOTHING;
  const name = `${family === 4 ? 'iptables' : 'ip6tables'} (${variant})`;
  const { script, words } = planTable('filter', filter, table);
  return { script, said: words.map((word) => `${name}: ${word}`), name, place: table.jumps[0]?.from };
}

function missing(name: string, family: Family, variant: Variant): Problem {
  const command = family === 4 ? 'iptables' : 'ip6tables';
  return {
    what: `${name}, chain FORWARD`,
    why: `it drops forwarded packets, and there is no ${command}-${variant} to accept those of weft's networks with`,
    fix: 'Install it: apt-get install iptables.',
  };
}
