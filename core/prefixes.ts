// Sets of prefixes.
import { IpNetwork } from './address.js';

/** The prefixes that no other one contains: interval sets reject overlaps, and hand-made networks may overlap. */
export function outermost(prefixes: readonly IpNetwork[]): IpNetwork[] {
  const sorted = prefixes.toSorted((a, b) => a.length - b.length || Number(a.base.value - b.base.value));
  // Overlapping prefixes always contain each other; the shorter ones come first, so one lookup for each length suffices.
  const kept = new Map<string, IpNetwork>();
  const lengths = [...new Set(sorted.map((prefix) => prefix.length))];
  for (const prefix of sorted) {
    const inside = lengths.some(
      (length) => length <= prefix.length && kept.has(IpNetwork.of(prefix.base, length).toString()),
    );
    if (!inside) kept.set(prefix.toString(), prefix);
  }
  return [...kept.values()];
}
