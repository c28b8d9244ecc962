// The replica of the cluster: the watcher's events decoded into one view.
//
// Each record is decoded once, and the view is always consistent. A value that cannot be read becomes a BadRecord, and the
// last readable state of its record stays.
import { createHash } from 'node:crypto';

import type { IEvent, IKeyValue } from 'etcd3';

import type { Revisions } from '../core/lost-records.js';
import type { BadRecord, Lease } from '../core/records.js';
import type { EtcdClient, StoreLog } from './client.js';
import { decodeRecord, type StoreRecord } from './decode.js';
import { FollowedNetworks } from './followed-networks.js';
import type { KeyRange, Keys } from './keys.js';
import { LiveView } from './live-view.js';
import { lostRemovals, superseded, type LostRemoval } from './tombstones.js';
import type { Change, StoreState } from './store.js';
import { leftOut, type Scope } from './ranges.js';
import { Watcher, type Followed, type Following } from './watcher.js';

/** What the replica keeps of one key. There may be hundreds of thousands, so all have the same fields. */
interface Entry extends Revisions {
  etcdLease: string;
  /** Of the value, by which a change is detected. */
  digest: number;
  /** The value, where it is no readable record. */
  text: string | undefined;
  record: StoreRecord | undefined;
  bad: BadRecord | undefined;
}

export class Replica implements Following {
  readonly view = new LiveView();
  readonly #entries = new Map<string, Entry>();
  /** The key of each leased subnet of the view; two keys can have one subnet (with and without an IPv6 half). */
  readonly #leaseKeys = new Map<string, string>();
  readonly #listeners = new Set<(changes: readonly Change[]) => void>();
  readonly #stateListeners = new Set<(state: StoreState) => void>();
  readonly #waiters = new Set<() => void>();
  readonly #watcher: Watcher;
  #state: StoreState = { connected: false, since: new Date(), revision: 0, resyncs: 0 };
  #synced = false;
  #closed = false;
  /** Everything up to here is in the view. */
  #revision = 0;
  /** Last revisions of deleted configs and nodes. A restored etcd may still have them. */
  readonly #deleted = new Map<string, Revisions>();
  /** Superseded tombstones by key, with their revision. They are not in the view; etcd may have them. */
  readonly #superseded = new Map<string, string>();
  #onLostRemovals: (lost: readonly LostRemoval[]) => void = () => undefined;
  #onSuperseded: (tombstones: readonly string[]) => void = () => undefined;

  readonly followed: FollowedNetworks;
  constructor(
    private readonly client: EtcdClient,
    private readonly keys: Keys,
    from: Followed,
    private readonly log: StoreLog,
    private readonly now: () => Date,
  ) {
    this.#watcher = new Watcher(client, keys, from, this, log);
    this.followed = new FollowedNetworks({
      watcher: this.#watcher,
      first: from.networks,
      listed: (network, signal) => this.until(() => this.follows(network), signal),
    });
  }

  get isSynced(): boolean {
    return this.#synced;
  }

  get state(): StoreState {
    return { ...this.#state, revision: Math.max(this.client.revision, this.#revision) };
  }

  subscribe(listener: (changes: readonly Change[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  onState(listener: (state: StoreState) => void): () => void {
    this.#stateListeners.add(listener);
    return () => this.#stateListeners.delete(listener);
  }

  /** Calls back with removals whose tombstones were lost in a restore. */
  onLostRemovals(listener: (lost: readonly LostRemoval[]) => void): void {
    this.#onLostRemovals = listener;
  }

  /** Calls back with the keys of superseded tombstones, for deletion. */
  onSuperseded(listener: (tombstones: readonly string[]) => void): void {
    this.#onSuperseded = listener;
  }

  /** The revision of a superseded tombstone; undefined if it is none. */
  superseded(tombstone: string): string | undefined {
    return this.#superseded.get(tombstone);
  }

  /** Whether it has the containers of all networks, in one order of events. */
  get isWhole(): boolean {
    return this.#watcher.scope.isWhole;
  }

  /** What is asked of a range where no network is followed. */
  rest(range: KeyRange): KeyRange[] {
    return this.#watcher.rest(range);
  }

  /** Whether the containers of a network are in the view. */
  follows(network: string): boolean {
    return this.#synced && this.#watcher.scope.follows(network);
  }

  /** The value of a key that is no readable record: of another program, or of weft's own protocols. */
  text(key: string): string | undefined {
    return this.#entries.get(key)?.text;
  }

  /** Whether a key has this value. */
  holds(key: string, text: string): boolean {
    return this.#entries.get(key)?.digest === digestOf(Buffer.from(text));
  }

  /** The revision of the last write of a key; undefined: it is not there. */
  modRevision(key: string): number | undefined {
    const entry = this.#entries.get(key);
    return entry && Number(entry.modRevision);
  }

  /** The record of a key, where this is how the view has it. */
  record(key: string, text: Buffer, etcdLease: string): StoreRecord | undefined {
    const entry = this.#entries.get(key);
    const isBad = entry?.bad !== undefined || entry?.etcdLease !== etcdLease;
    return !isBad && entry.digest === digestOf(text) ? entry.record : undefined;
  }

  /** The keys that begin with `start` and hold no record, with their values. */
  *plainBelow(start: string): Generator<[key: string, value: string]> {
    for (const [key, { text }] of this.#entries)
      if (text !== undefined && key.startsWith(start)) yield [key, text];
  }

  /** Settles when `condition` holds, checked after every batch and when the connection changes. @throws the signal's reason */
  async until(condition: () => boolean, signal: AbortSignal): Promise<void> {
    if (condition()) return;
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const finish = (): void => {
        this.#waiters.delete(test);
        signal.removeEventListener('abort', aborted);
      };
      const aborted = (): void => {
        finish();
        reject(signal.reason as Error);
      };
      const test = (): void => {
        if (!condition()) return;
        finish();
        resolve();
      };
      this.#waiters.add(test);
      signal.addEventListener('abort', aborted, { once: true });
    });
  }

  /** The key of a lease of the view; its IPv6 half may be spelt differently from weft's own spelling. */
  keyOfLease(lease: Lease): string {
    const { network, subnet, subnet6 } = lease;
    return (
      this.#leaseKeys.get(`${network} ${subnet.toString()}`) ?? this.keys.lease(network, subnet, subnet6)
    );
  }

  /** Whether the key of a lease was made before its network's config was last written. */
  predatesConfig(lease: Lease): boolean {
    const [key, config] = [this.keyOfLease(lease), this.keys.config(lease.network)].map((it) =>
      this.#entries.get(it),
    );
    return (
      key !== undefined && config !== undefined && BigInt(key.createRevision) < BigInt(config.modRevision)
    );
  }

  /** Whether this process saw a config or node disappear, for any reason. */
  wasDeleted(key: string): boolean {
    return this.#deleted.has(key);
  }

  /** Whether the view has seen a write of this key at this revision. */
  includes(key: string, revision: number): boolean {
    return this.#watcher.at(key) >= revision;
  }

  /** Waits until the view has seen a write of this key, for a limited time. Returns whether it has. */
  async reached(key: string, revision: number, timeout = 1000): Promise<boolean> {
    const has = (): boolean => this.includes(key, revision);
    await this.until(has, AbortSignal.timeout(timeout)).catch(() => undefined);
    return has();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#watcher.close();
  }

  list(kvs: readonly IKeyValue[], revision: number, restored: boolean): void {
    const changes: Change[] = [];
    const there = new Map(kvs.map((kv) => [kv.key.toString(), kv]));
    const remembered = restored ? new Map(this.#entries) : undefined;
    const lost = restored ? lostRemovals(this.keys, this.view.removals.values(), there, this.#deleted) : [];
    for (const key of [...this.#entries.keys()]) if (!there.has(key)) this.#delete(key, changes);
    if (restored) {
      for (const change of changes)
        if (change.kind === 'lease' || change.kind === 'claim') change.lost = true;
      this.#state = { ...this.#state, restored: this.now() };
    }
    for (const [key, kv] of there) this.#put(key, kv, changes);
    this.#dropSuperseded(changes, remembered);
    if (this.#synced) {
      this.#state = { ...this.#state, resyncs: this.#state.resyncs + 1 };
      this.log.info('etcd listed again', { revision, keys: kvs.length, changes: changes.length });
    }
    this.#synced = true;
    this.#revision = revision;
    this.#deliver(changes);
    if (lost.length > 0) this.#onLostRemovals(lost);
  }

  /** @param remembered what was known before etcd came back with another history */
  #dropSuperseded(changes: Change[], remembered?: ReadonlyMap<string, Revisions>): void {
    const tombstones = superseded(
      this.keys,
      this.view.removals.values(),
      this.#entries,
      remembered,
      this.#superseded,
    );
    const old: string[] = [];
    for (const tombstone of tombstones) {
      const entry = this.#entries.get(tombstone);
      if (entry?.bad !== undefined && entry.record !== undefined) {
        // What cannot be read now is left in etcd; only the removal that was read before is over.
        changes.push(this.view.remove(entry.record));
        entry.record = undefined;
        continue;
      }
      this.#superseded.set(tombstone, entry?.modRevision ?? '0');
      this.#delete(tombstone, changes);
      old.push(tombstone);
    }
    if (old.length > 0) this.#onSuperseded(old);
  }

  begun(kvs: readonly IKeyValue[]): void {
    const changes: Change[] = [];
    for (const kv of kvs) this.#put(kv.key.toString(), kv, changes);
    this.#deliver(changes);
  }

  narrowed(scope: Scope): string[] {
    const changes: Change[] = [];
    const dropped = [...this.#entries.keys()].filter((key) => leftOut(this.keys, scope, key));
    for (const key of dropped) this.#delete(key, changes);
    this.#deliver(changes);
    return dropped;
  }

  events(events: readonly IEvent[]): void {
    const changes: Change[] = [];
    for (const { type, kv } of events) {
      const key = kv.key.toString();
      if (type === 'Put') this.#put(key, kv, changes);
      else this.#delete(key, changes);
    }
    const concerns = ({ kind }: Change): boolean => ['network', 'node', 'removal', 'bad'].includes(kind);
    if (this.view.removals.size > 0 && changes.some(concerns)) this.#dropSuperseded(changes);
    this.#revision = Math.max(this.#revision, Number(events.at(-1)?.kv.mod_revision ?? 0));
    this.#deliver(changes);
  }

  connected(up: boolean, error?: string): void {
    // The end of the connection is then what was asked for.
    if (this.#closed) return;
    if (this.#state.connected === up && (up || this.#state.error !== undefined)) {
      if (!up && error !== undefined && error !== this.#state.error) this.#state = { ...this.#state, error };
      return;
    }
    const { error: _error, ...state } = this.#state;
    this.#state = {
      ...state,
      connected: up,
      since: this.now(),
      ...(!up && error !== undefined && { error }),
    };
    if (up) this.log.info('etcd connected', { revision: this.#revision });
    else this.log.warn('etcd is unreachable; weft continues with its last state', { error });
    for (const listener of [...this.#stateListeners]) this.#safely(() => listener(this.state));
    for (const test of [...this.#waiters]) test();
  }

  #deliver(changes: readonly Change[]): void {
    if (this.#closed) return;
    if (changes.length > 0) {
      for (const listener of [...this.#listeners]) this.#safely(() => listener(changes));
    }
    for (const test of [...this.#waiters]) test();
  }

  /** An error of one listener must not stop the watch for the others. */
  #safely(call: () => void): void {
    try {
      call();
    } catch (error) {
      this.log.error('a listener of the store failed', { error });
    }
  }

  #put(key: string, kv: IKeyValue, changes: Change[]): void {
    const known = this.#entries.get(key);
    const { create_revision: createRevision, mod_revision: modRevision, lease: etcdLease } = kv;
    const digest = digestOf(kv.value);
    if (known !== undefined && known.digest === digest && known.etcdLease === etcdLease) {
      known.createRevision = createRevision;
      known.modRevision = modRevision;
      return;
    }
    this.#deleted.delete(key);
    const text = textOf(kv.value);
    const { record, bad } = known ?? {};
    const entry: Entry = { createRevision, modRevision, etcdLease, digest, text, record, bad };
    this.#entries.set(key, entry);
    this.#decode(key, entry, text, changes);
  }

  #decode(key: string, entry: Entry, text: string, changes: Change[]): void {
    const decoded = decodeRecord(this.keys.parse(key), text, entry.etcdLease);
    if (decoded === undefined) return;
    const why = 'bad' in decoded ? decoded.bad : this.#occupied(key, decoded.record);
    if (why !== undefined) {
      if (entry.bad?.why === why) return;
      entry.bad = { key, why };
      changes.push(this.view.putBad(entry.bad));
      this.log.warn('a record in etcd cannot be used and is ignored', { key, why });
      return;
    }
    entry.text = undefined;
    if (entry.bad !== undefined) {
      changes.push(this.view.removeBad(entry.bad));
      entry.bad = undefined;
    }
    if ('record' in decoded) {
      entry.record = decoded.record;
      changes.push(this.view.put(decoded.record));
    }
  }

  /** Two keys may name one IPv4 subnet; the first one has it. */
  #occupied(key: string, record: StoreRecord): string | undefined {
    if (record.kind !== 'lease') return undefined;
    const slot = `${record.network} ${record.subnet}`;
    const holder = this.#leaseKeys.get(slot) ?? key;
    this.#leaseKeys.set(slot, holder);
    return holder === key
      ? undefined
      : `subnet ${record.subnet} is leased already, by the key ${holder}; delete one of the two`;
  }

  #delete(key: string, changes: Change[]): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) return;
    this.#entries.delete(key);
    if (entry.bad !== undefined) changes.push(this.view.removeBad(entry.bad));
    if (entry.record === undefined) return;
    changes.push(this.view.remove(entry.record));
    if (entry.record.kind === 'network' || entry.record.kind === 'node') this.#deleted.set(key, entry);
    if (entry.record.kind === 'lease') this.#releaseSlot(key, entry.record, changes);
  }

  /** Another key of the same subnet may have been waiting for this one. */
  #releaseSlot(key: string, record: StoreRecord & { kind: 'lease' }, changes: Change[]): void {
    const slot = `${record.network} ${record.subnet}`;
    if (this.#leaseKeys.get(slot) !== key) return;
    this.#leaseKeys.delete(slot);
    for (const other of [...this.view.bad.keys()]) {
      const entry = this.#entries.get(other);
      const parsed = this.keys.parse(other);
      const same = parsed.kind === 'lease' && `${parsed.network} ${parsed.subnet.toString()}` === slot;
      if (same && entry?.text !== undefined) this.#decode(other, entry, entry.text, changes);
    }
  }
}

/** Larger values are no records (see parse.ts). */
const textOf = (value: Buffer): string =>
  value.length <= 128 * 1024 ? value.toString() : ' '.repeat(value.length);

const digestOf = (value: Buffer): number => createHash('sha256').update(value).digest().readUIntBE(0, 6);
