// VLAN ids, alone and in ranges.
import { invalidArgument } from '../errors.js';
import { parseInteger, type Network, type VlanRange } from '../network.js';

/** IEEE 802.1Q-2022 §9.6: 12 bits, of which 0 means "no VLAN" and 4095 is reserved. */
export const VLAN_IDS = { first: 1, last: 4094 } as const;

/** @throws WeftError INVALID_ARGUMENT */
export const parseVlan = (id: number, field = 'vlan'): number =>
  parseInteger(id, field, VLAN_IDS.first, VLAN_IDS.last);

/** Parses `100,200-210` into ordered ranges without overlaps. @throws WeftError INVALID_ARGUMENT */
export function parseVlans(text: string, field = 'allow-vlan'): VlanRange[] {
  const ranges = text.split(',').map((part): VlanRange => {
    const [, first, last] = /^\s*(\d{1,5})(?:-(\d{1,5}))?\s*$/.exec(part) ?? [];
    if (first === undefined) {
      throw invalidArgument(
        `${field}: "${part}" is not a VLAN id or a range of them`,
        'Write it as 100,200-210.',
      );
    }
    const range = {
      first: parseVlan(Number(first), field),
      last: parseVlan(Number(last ?? first), field),
    };
    if (range.first > range.last)
      throw invalidArgument(`${field}: "${part}" ends before it begins`, 'Write it as 200-210.');
    return range;
  });
  return mergeVlans(ranges);
}

/** In order, with adjacent ranges merged. */
export function mergeVlans(ranges: readonly VlanRange[]): VlanRange[] {
  const merged: VlanRange[] = [];
  for (const { first, last } of ranges.toSorted((a, b) => a.first - b.first)) {
    const before = merged.at(-1);
    if (before === undefined || before.last + 1 < first) merged.push({ first, last });
    else before.last = Math.max(before.last, last);
  }
  return merged;
}

export const formatVlans = (ranges: readonly VlanRange[]): string =>
  ranges.map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`)).join(',');

/** The check of a network without VLANs. @throws WeftError INVALID_ARGUMENT if one is requested */
export function noVlan({ name, driver }: Network, asked: number | undefined): undefined {
  if (asked === undefined) return undefined;
  throw invalidArgument(
    `vlan: network ${name} has no VLANs, its driver is ${driver}`,
    'Leave --vlan out, or attach to a network of the driver vlan.',
  );
}
