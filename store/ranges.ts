// Ranges of etcd's keys: which of them a process follows that is on few networks, and what is left without the others.
//
// Configs and leases lie between the records of containers, so no range holds all of them and nothing else. What is not
// followed is cut out of the whole: for a process that follows everything, nothing.
import type { KeyRange, Keys } from './keys.js';
import { rangeOf } from './keys.js';

/** Areas below the prefix that controllers alone read. */
const OF_CONTROLLERS = new Set(['certificates', 'elections', 'proposals', 'tokens']);

/** Of which networks a process follows the containers: endpoints, claims and names. */
export interface Scope {
  /** Of all, and what controllers alone read. */
  readonly isWhole: boolean;
  /** Undefined: all. */
  readonly networks: ReadonlySet<string> | undefined;
  follows(network: string): boolean;
}

export const scopeOf = (networks: Iterable<string> | undefined): Scope => {
  const set = networks && new Set(networks);
  return { networks: set, isWhole: set === undefined, follows: (network) => set?.has(network) !== false };
};

/** Where a network has its containers: before its config, and between that and its leases. Everybody follows those two. */
export function containersOf(keys: Keys, network: string): KeyRange[] {
  const config = Buffer.from(keys.config(network));
  return [
    { key: Buffer.from(keys.network(network)), range_end: config },
    { key: after(config), range_end: Buffer.from(keys.subnets(network)) },
  ];
}

/** The network of whose containers a key tells; undefined: of none. */
export function networkWithin(keys: Keys, key: string): string | undefined {
  const start = keys.networks();
  if (!key.startsWith(start)) return undefined;
  const [network = ''] = key.slice(start.length).split('/', 1);
  const one = Buffer.from(key);
  return containersOf(keys, network).some((range) => contains(range, one)) ? network : undefined;
}

/** The largest range around this key of which nothing is followed; undefined: the key itself is followed. */
export function leftOut(keys: Keys, scope: Scope, key: string): KeyRange | undefined {
  if (scope.isWhole || !key.startsWith(`${keys.prefix}/`)) return undefined;
  const [area = '', network, what, ...rest] = key.slice(keys.prefix.length + 1).split('/');
  if (network === undefined) return undefined;
  if (OF_CONTROLLERS.has(area)) return rangeOf(`${keys.prefix}/${area}/`);
  if (area !== 'networks' || what === undefined) return undefined;
  // They keep two endpoints from one name, in transactions; nobody else reads them.
  const names = `${keys.network(network)}names/`;
  if (scope.follows(network)) return what === 'names' && rest.length > 0 ? rangeOf(names) : undefined;
  return containersOf(keys, network).find((range) => contains(range, Buffer.from(key)));
}

/** The least key that is greater. */
export const after = (key: Buffer): Buffer => Buffer.concat([key, Buffer.of(0)]);

export const contains = ({ key, range_end }: KeyRange, one: Buffer): boolean =>
  key.compare(one) <= 0 && one.compare(range_end) < 0;

/** What ranges have besides these others. */
export function without<T extends KeyRange>(ranges: readonly T[], others: readonly KeyRange[]): T[] {
  // Sorted once: with a thousand networks there are thousands of each.
  const sorted = others.toSorted((a, b) => a.key.compare(b.key));
  return ranges.flatMap((range) => {
    const left: T[] = [];
    let from = range.key;
    for (const { key, range_end } of sorted) {
      if (key.compare(range.range_end) >= 0) break;
      if (range_end.compare(from) <= 0) continue;
      if (from.compare(key) < 0) left.push({ ...range, key: from, range_end: key });
      from = range_end;
    }
    if (from.compare(range.range_end) < 0) left.push({ ...range, key: from });
    return left;
  });
}
