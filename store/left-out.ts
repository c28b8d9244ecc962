// What a process that follows few networks leaves out of its lists and watches, once much of it has arrived in vain.
import type { KeyRange, Keys } from './keys.js';
import { containersOf, leftOut, networkWithin, without, type Scope } from './ranges.js';

/**
 * Keys that arrive in vain before they are left out: on average, since many nodes hear of the same, and watches that all begin
 * again at once are the most work for etcd.
 */
const WORTH = 1000;

export class LeftOut {
  readonly #worth = WORTH * (0.5 + Math.random());
  /** By the first key. */
  readonly #ranges = new Map<string, KeyRange>();
  readonly #vain = new Map<string, KeyRange>();
  #inVain = 0;

  /** @param networks of which much is left out from the start */
  constructor(
    private readonly keys: Keys,
    networks: Iterable<string>,
  ) {
    for (const network of networks) for (const range of containersOf(keys, network)) this.#leave(range);
  }

  /** The networks of whose containers nothing is asked, in the order of their names. */
  get networks(): string[] {
    const names = [...this.#ranges.keys()].map((key) => networkWithin(this.keys, key));
    return [...new Set(names.filter((name) => name !== undefined))].sort();
  }

  /** Whether so much has arrived in vain that it should be left out. */
  get isMuch(): boolean {
    return this.#inVain >= this.#worth;
  }

  /** What these ranges have besides what is left out, and not wanted. */
  rest<T extends KeyRange>(ranges: readonly T[], wanted: Scope): T[] {
    const isOut = ({ key }: KeyRange): boolean => leftOut(this.keys, wanted, key.toString()) !== undefined;
    return without(ranges, [...this.#ranges.values()].filter(isOut));
  }

  /** Keys of the range arrived in vain. */
  add(range: KeyRange, many = 1): void {
    this.#vain.set(range.key.toString(), range);
    this.#inVain += many;
  }

  /** A new list: what arrived in vain before is counted again. */
  clear(): void {
    this.#vain.clear();
    this.#inVain = 0;
  }

  /** Leaves out what has arrived in vain. */
  grow(): void {
    for (const range of this.#vain.values()) this.#leave(range);
    this.clear();
  }

  /** Forgets networks that are no more. */
  keepOnly(networks: ReadonlySet<string>): void {
    for (const [key] of this.#ranges) {
      const network = networkWithin(this.keys, key);
      if (network !== undefined && !networks.has(network)) this.#ranges.delete(key);
    }
  }

  #leave(range: KeyRange): void {
    this.#ranges.set(range.key.toString(), range);
  }
}
