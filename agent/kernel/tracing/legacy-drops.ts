// Counters of the rules of iptables-legacy that drop packets: the kernel tells of these rules nothing else.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import type { Family } from '../../../core/address.js';
import { findXtables, legacyTables } from '../firewall/xtables.js';

const DEADLINE_MS = 1000;

/** Packets by rule, as `iptables-save` shows it with its table; and by chain with a policy that drops. */
export type DropCounters = ReadonlyMap<string, number>;

/**
 * In the namespace that `inside` enters. Empty where no table of iptables-legacy is in use, or the command is not there.
 * @throws Error where the command fails
 */
export async function readDropCounters(
  family: Family,
  inside: <T>(work: () => T) => T,
): Promise<DropCounters> {
  if (inside(() => legacyTables(family)).length === 0) return new Map();
  const xtables = await findXtables(family, 'legacy');
  if (xtables === undefined) return new Map();
  // A process belongs to the namespace that it is started from.
  const saved = inside(() =>
    promisify(execFile)(xtables.saveCommand, ['-c'], { timeout: DEADLINE_MS, maxBuffer: 64 << 20 }),
  );
  return parseCounters((await saved).stdout);
}

/** @param text what `iptables-save -c` prints */
export function parseCounters(text: string): DropCounters {
  const found = new Map<string, number>();
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) table = line.slice(1).trim();
    const [, chain, packets] = /^:(\S+) DROP \[(\d+):/.exec(line) ?? [];
    if (chain !== undefined) found.set(`-t ${table} -P ${chain} DROP`, Number(packets));
    const [, count, rule] = /^\[(\d+):\d+\] (-A .* -j (?:DROP|REJECT)\b.*)$/.exec(line) ?? [];
    if (rule !== undefined) found.set(`-t ${table} ${rule}`, Number(count));
  }
  return found;
}

/** What has dropped packets between two readings. */
export const risenSince = (before: DropCounters, after: DropCounters): string[] =>
  [...after].flatMap(([rule, packets]) => (packets > (before.get(rule) ?? 0) ? [rule] : []));
