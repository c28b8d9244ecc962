// Keys of the records that desired objects come from.
//
// A key is a value: a network may be named like any other word.

export type RecordKey =
  | { kind: 'network'; network: string }
  /** A remote peer, by its subnet. */
  | { kind: 'peer'; network: string; id: string }
  /** An address claim, by its address. */
  | { kind: 'claim'; network: string; id: string }
  | { kind: 'endpoint'; network: string; id: string }
  /** A pipework attachment, by its id. */
  | { kind: 'attachment'; id: string }
  /** A parent link of pipework attachments, by its name. */
  | { kind: 'host-interface'; id: string };

/** Records that also have objects in a container. */
export type SandboxKey = Extract<RecordKey, { kind: 'endpoint' | 'attachment' }>;

/** A map by record key; equal keys are one entry. */
export class RecordMap<V, K extends RecordKey = RecordKey> implements Iterable<[K, V]> {
  readonly #entries = new Map<string, [K, V]>();

  constructor(entries: Iterable<readonly [K, V]> = []) {
    for (const [key, value] of entries) this.set(key, value);
  }

  get size(): number {
    return this.#entries.size;
  }

  get(key: K): V | undefined {
    return this.#entries.get(identityOf(key))?.[1];
  }

  has(key: K): boolean {
    return this.#entries.has(identityOf(key));
  }

  set(key: K, value: V): this {
    this.#entries.set(identityOf(key), [key, value]);
    return this;
  }

  delete(key: K): boolean {
    return this.#entries.delete(identityOf(key));
  }

  *keys(): IterableIterator<K> {
    for (const [key] of this.#entries.values()) yield key;
  }

  *values(): IterableIterator<V> {
    for (const [, value] of this.#entries.values()) yield value;
  }

  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.#entries.values();
  }
}

/** A text that is equal for equal keys only. */
export function identityOf(key: RecordKey): string {
  return JSON.stringify([key.kind, 'network' in key ? key.network : '', 'id' in key ? key.id : '']);
}
