// Addresses that selectors of addresses alone mean, as ranges that do not overlap.
import { addressBits, IpAddress, type Family } from '../address.js';
import { holdsAddress, type Selector } from './selector.js';

export interface AddressRange {
  family: Family;
  first: IpAddress;
  last: IpAddress;
}

/** Every address is in one range at most, with all selectors that mean it. */
export function addressRanges(
  selectors: readonly Selector[],
): (AddressRange & { selectors: readonly Selector[] })[] {
  return ([4, 6] as const).flatMap((family) => rangesOf(family, selectors));
}

function rangesOf(
  family: Family,
  selectors: readonly Selector[],
): (AddressRange & { selectors: readonly Selector[] })[] {
  const end = 1n << BigInt(addressBits(family));
  // Where anything may begin to hold, or cease to.
  const borders = new Set([0n, end]);
  for (const term of selectors.flatMap(({ terms }) => terms)) {
    if (term.kind !== 'cidr' || term.prefix.family !== family) continue;
    borders.add(term.prefix.base.value);
    borders.add(term.prefix.last.value + 1n);
  }
  const sorted = [...borders].toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return sorted.slice(0, -1).flatMap((from, i) => {
    const first = IpAddress.of(family, from);
    const holding = selectors.filter((selector) => holdsAddress(selector, first));
    if (holding.length === 0) return [];
    return [{ family, first, last: IpAddress.of(family, (sorted[i + 1] ?? end) - 1n), selectors: holding }];
  });
}
