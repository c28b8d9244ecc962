// Follows the keys below the prefix: one list, then watches on one stream.
//
// It continues through every disconnect, compaction and restore; nothing is missed and nothing delivered twice. It handles
// bytes and revisions only; replica.ts decodes them.
//
// What a process does not follow is dropped. Once much of it has arrived in vain, it is left out of the watches, too, and of
// lists to come: they are begun again, on another stream, in parts that lie between, each with a position of its own. Events
// keep their order within a part, not across parts. A single watch is never ended: etcd 3.4 keeps, as long as the stream lives, what it
// had for one that was cancelled.
//
// etcd sends what a watch missed in batches of a thousand revisions whose headers already name the newest one. The position
// to continue from is therefore the last event's own revision, never the header's.
import type { IEvent, IKeyValue, IWatchResponse } from 'etcd3';

import { hasHappened } from './anchor.js';
import type { EtcdClient, StoreLog } from './client.js';
import { CallFailure, describe, failureOf } from './failures.js';
import type { KeyRange, Keys } from './keys.js';
import { LeftOut } from './left-out.js';
import { pagesOf, readAll } from './pages.js';
import { contains, leftOut, networkWithin, scopeOf, without, type Scope } from './ranges.js';
import type { Session } from './session.js';
import { WatchStream, type Part } from './watch-stream.js';

/** What is followed from the first list on. */
export interface Followed {
  /** Networks whose containers are; absent: all, and what controllers alone read. */
  networks?: Iterable<string> | undefined;
  /** Networks that had much in vain before, as far as they are not followed. */
  leftOut?: Iterable<string> | undefined;
  /** Called with the networks that are left out, after each list and where there are more. It does not throw. */
  onLeftOut?: ((networks: readonly string[]) => void) | undefined;
}

export interface Following {
  /**
   * All keys at this revision; a key not in it is deleted. `restored`: the list is of another history than before, and the
   * keys that are absent were lost with it.
   */
  list(kvs: readonly IKeyValue[], revision: number, restored: boolean): void;
  /** All containers of a network that is followed from here on. */
  begun(kvs: readonly IKeyValue[]): void;
  /** Less is followed from here on. @returns the keys that were dropped */
  narrowed(scope: Scope): readonly string[];
  /** Whole transactions as far as one part has them, in order. */
  events(events: readonly IEvent[]): void;
  /** The connection is established and the watches run, or it is lost. */
  connected(up: boolean, error?: string): void;
}

/** Watches that networks may leave behind that are no more; a list joins what they have split. */
const SPLIT = 100;

/** Milliseconds at least between two times that watches are begun again for that. */
const BETWEEN_CUTS = 60_000;

const revisionOf = (kv: IKeyValue): number => Number(kv.mod_revision);

export class Watcher {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** Up to here something has been delivered; -1 before the first list. */
  #revision = -1;
  /** The history that #revision belongs to. */
  #epoch = 0;
  /** The last event, by which the same history is recognised; version 0: a deletion. */
  #anchor: IKeyValue | undefined;
  /** What is watched, each part up to its own revision. */
  #parts: Part[] = [];
  /** How many the last list has left. */
  #listedParts = 1;
  #stream: WatchStream | undefined;
  /** What the last list and those of single networks since then have: what is delivered. */
  #scope: Scope = scopeOf([]);
  /** Undefined: all networks. */
  #wanted: Set<string> | undefined;
  /** Events of networks whose list is on the way; one that is begun again has another array. */
  readonly #early = new Map<string, IEvent[]>();
  /** At which revision the containers of a network were listed by themselves: older events may still be on the way. */
  readonly #listedAt = new Map<string, number>();
  readonly #leftOut: LeftOut;
  /** Monotonic time, in milliseconds. */
  #cutAt = -Infinity;

  constructor(
    private readonly client: EtcdClient,
    private readonly keys: Keys,
    private readonly from: Followed,
    private readonly to: Following,
    private readonly log: StoreLog,
  ) {
    this.#wanted = from.networks && new Set(from.networks);
    this.#leftOut = new LeftOut(keys, from.leftOut ?? []);
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort(new CallFailure('unsent', 'the store was closed'));
    await this.#running;
  }

  /** What has been listed, and is delivered. */
  get scope(): Scope {
    return this.#scope;
  }

  /** Begins to follow a network; `begun` tells when it has been listed. */
  follow(network: string): void {
    if (this.#wanted === undefined || this.#wanted.has(network)) return;
    this.#wanted.add(network);
    if (this.#stream !== undefined && !this.#scope.follows(network)) void this.#begin(network);
  }

  unfollow(network: string): void {
    if (this.#wanted?.delete(network) !== true) return;
    this.#early.delete(network);
    if (this.#scope.follows(network)) this.#narrow();
  }

  /** Follows these and no others. Only of a process that has followed all. */
  followOnly(networks: Iterable<string>): void {
    if (this.#wanted !== undefined) return;
    this.#wanted = new Set(networks);
    if (this.#revision >= 0) this.#narrow();
  }

  /** Up to which revision a key has been delivered; one that is not watched never waits. */
  at(key: string): number {
    const one = Buffer.from(key);
    return this.#parts.find((part) => contains(part, one))?.revision ?? (this.#revision < 0 ? -1 : Infinity);
  }

  /** What is wanted of a scope. */
  #wantedOf(scope: Scope): Scope {
    return this.#wanted === undefined
      ? scope
      : scopeOf([...this.#wanted].filter((name) => scope.follows(name)));
  }

  #narrow(): void {
    this.#scope = this.#wantedOf(this.#scope);
    for (const key of this.to.narrowed(this.#scope)) {
      const range = leftOut(this.keys, this.#scope, key);
      if (range !== undefined) this.#leftOut.add(range);
    }
  }

  /** What is asked of a range where no network is followed. */
  rest(range: KeyRange): KeyRange[] {
    return this.#leftOut.rest([range], scopeOf([]));
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let session: Session;
      try {
        session = await this.client.session(signal);
      } catch {
        return;
      }
      try {
        await this.#follow(session, signal);
      } catch (error) {
        const failure = failureOf(error);
        session.end(failure);
        if (!signal.aborted) this.to.connected(false, describe(failure, session.url));
      }
    }
  }

  async #follow(session: Session, signal: AbortSignal): Promise<void> {
    const past = await this.#past(session);
    if (past !== 'same') await this.#list(session, past === 'other');
    for (;;) {
      const why = await this.#watch(session, signal);
      if (why === 'cut') {
        this.#cutAt = performance.now();
        this.#cut(true);
        if (this.#parts.length > 2 * this.#listedParts + SPLIT) await this.#list(session, false);
      } else await this.#list(session, why === 'restored');
    }
  }

  /** What etcd has of the history that this watcher has seen. */
  async #past(session: Session): Promise<'same' | 'other' | 'unknown'> {
    if (this.#revision < 0) return 'unknown';
    return this.#epoch === this.client.epoch ? await this.#anchored(session) : 'other';
  }

  async #list(session: Session, restored: boolean): Promise<void> {
    const epoch = this.client.epoch;
    const asked = scopeOf(this.#wanted);
    const ranges = this.#leftOut.rest([this.keys.all()], asked);
    this.#leftOut.clear();
    const { kvs: read, revision } = await readAll(pagesOf(session), this.keys, ranges, asked, (range, many) =>
      this.#leftOut.add(range, many),
    );
    // Some may not be wanted any more.
    const scope = this.#wantedOf(asked);
    const kvs = read.filter(({ key }) => leftOut(this.keys, scope, key.toString()) === undefined);
    this.#revision = revision;
    this.#epoch = epoch;
    this.#anchor = kvs.reduce<IKeyValue | undefined>(
      (a, b) => (a === undefined || revisionOf(b) > revisionOf(a) ? b : a),
      undefined,
    );
    this.#scope = scope;
    this.#listedAt.clear();
    const configs = read.map(({ key }) => this.keys.parse(key.toString()));
    this.#leftOut.keepOnly(new Set(configs.flatMap((key) => (key.kind === 'network' ? [key.name] : []))));
    // Also what was left out of the list, but is of no network: nobody follows it.
    this.#parts = this.#leftOut.rest([{ ...this.keys.all(), revision }], asked);
    this.#cut(this.#leftOut.isMuch);
    this.#listedParts = this.#parts.length;
    this.to.list(kvs, revision, restored);
  }

  /** Lists a network that the last list has left out. Its own watch begins at the revision of that. */
  async #begin(network: string): Promise<void> {
    const early: IEvent[] = [];
    this.#early.set(network, early);
    const isOver = (): boolean => this.#early.get(network) !== early;
    let session: Session | undefined;
    try {
      session = await this.client.session(this.#stop.signal);
      // Not its leases: the view has them, maybe newer ones.
      const range = {
        key: Buffer.from(this.keys.network(network)),
        range_end: Buffer.from(this.keys.subnets(network)),
      };
      const names: KeyRange[] = [];
      const own = scopeOf([network]);
      const { kvs, revision } = await readAll(pagesOf(session), this.keys, [range], own, (vain) =>
        names.push(vain),
      );
      // It is not wanted any more, or was begun again since, maybe by another stream.
      if (isOver()) return;
      this.#scope = scopeOf([...(this.#scope.networks ?? []), network]);
      this.#listedAt.set(network, revision);
      for (const part of without([{ ...range, revision }], [...this.#parts, ...names])) {
        this.#parts.push(part);
        this.#stream?.begin(part);
      }
      this.#early.delete(network);
      this.to.begun(kvs.filter(({ key }) => networkWithin(this.keys, key.toString()) !== undefined));
      this.#deliver(early);
    } catch (error) {
      if (!isOver()) session?.end(failureOf(error));
    }
  }

  /** @param grows leaves out of the watches to come what has arrived in vain, too */
  #cut(grows: boolean): void {
    if (grows) {
      this.#leftOut.grow();
      this.#parts = this.#leftOut.rest(this.#parts, scopeOf(this.#wanted));
    }
    this.from.onLeftOut?.(this.#leftOut.networks);
  }

  /**
   * Revision and cluster id reveal most restores; a copy that has since grown past the old revision is only recognised by
   * what it has in place of the last event.
   */
  async #anchored(session: Session): Promise<'same' | 'other' | 'unknown'> {
    const anchor = this.#anchor;
    // Nothing was there.
    if (anchor === undefined) return 'same';
    const same = await hasHappened(session, anchor);
    // Another list costs little compared with continuing from another history.
    if (same === undefined) return 'unknown';
    const revision = revisionOf(anchor);
    if (!same) {
      this.log.warn('etcd has another history than before: restored from a copy', { revision });
      return 'other';
    }
    // A list or a notice of progress went on from there by what others wrote: of that nothing is known.
    return this.#parts.some((part) => part.revision > revision) ? 'unknown' : 'same';
  }

  /** Delivers events until a new list is needed, or other watches; returns why. @throws CallFailure when the stream breaks */
  async #watch(session: Session, signal: AbortSignal): Promise<'compacted' | 'restored' | 'cut'> {
    const stream = await session.watch();
    const { ended } = session;
    let stop: () => void = () => undefined;
    try {
      return await new Promise((resolve, reject) => {
        stop = () => reject((signal.aborted ? signal.reason : ended.reason) as Error);
        signal.addEventListener('abort', stop);
        ended.addEventListener('abort', stop);
        if (signal.aborted || ended.aborted) stop();
        const current = new WatchStream(
          stream,
          Math.max(this.#revision, ...this.#parts.map((part) => part.revision)),
        );
        this.#stream = current;
        stream.on('error', reject);
        stream.on('end', () => reject(new CallFailure('connection', 'the watch was ended')));
        stream.on('data', (response) => {
          // What was on its way when the stream was cancelled: etcd numbers the watches of each stream from 0.
          if (this.#stream !== current) return;
          try {
            session.heard();
            const why = this.#take(response);
            if (why !== undefined) resolve(why);
          } catch (error) {
            reject(failureOf(error));
          }
        });
        for (const part of this.#parts) current.begin(part);
        for (const network of this.#wanted ?? [])
          if (!this.#scope.follows(network)) void this.#begin(network);
      });
    } finally {
      this.#stream = undefined;
      this.#early.clear();
      signal.removeEventListener('abort', stop);
      ended.removeEventListener('abort', stop);
      // Ended before cancelled: etcd3 takes a stream that fails while it is open for a broken host, and closes all others.
      stream.end();
      stream.cancel();
    }
  }

  /** Returns why a new list is needed, or other watches, if they are. */
  #take(response: IWatchResponse): 'compacted' | 'restored' | 'cut' | undefined {
    const part = this.#stream?.partOf(response);
    if (part === undefined) return undefined;
    if (Number(response.compact_revision) > 0) {
      this.log.warn('etcd has compacted revisions that this watch still needed; listing all keys again', {
        revision: part.revision,
      });
      return 'compacted';
    }
    if (response.canceled)
      throw new CallFailure('connection', `the watch was cancelled: ${response.cancel_reason}`);
    if (response.created) return this.#created(response, part);
    // Events up to its revision were delivered before; etcd does not send them again, but the check keeps the contract by itself.
    const events = response.events.filter((event) => revisionOf(event.kv) > part.revision);
    const last = events.at(-1);
    // Without events it says how far this part is.
    if (response.events.length === 0)
      part.revision = Math.max(part.revision, Number(response.header.revision));
    if (last === undefined) return undefined;
    part.revision = revisionOf(last.kv);
    this.#revision = Math.max(this.#revision, part.revision);
    this.client.saw(part.revision);
    if (part.revision >= revisionOf(this.#anchor ?? last.kv)) this.#anchor = last.kv;
    this.#deliver(events);
    const isCut = this.#leftOut.isMuch && performance.now() - this.#cutAt >= BETWEEN_CUTS;
    return isCut ? 'cut' : undefined;
  }

  /** A watch runs. */
  #created({ header }: IWatchResponse, part: Part): 'restored' | undefined {
    // A watch from a future revision is silent until that revision exists, and misses all before it. Newer events of other
    // watches may come before this answer, so that they say nothing of it.
    const now = Number(header.revision);
    const before = Math.max(this.#stream?.begunAt ?? 0, part.revision);
    if (now < before) {
      this.log.warn('etcd has gone back behind the revision of this watch; listing all keys again', {
        ...{ revision: now, before },
      });
      return 'restored';
    }
    if (this.#stream?.isComplete === true) this.to.connected(true);
    return undefined;
  }

  /** Those that are followed; those of a network whose list is on the way come after it. */
  #deliver(events: readonly IEvent[]): void {
    const followed = this.#scope.isWhole
      ? events
      : events.filter((event) => {
          const key = event.kv.key.toString();
          const range = leftOut(this.keys, this.#scope, key);
          const network = networkWithin(this.keys, key) ?? '';
          if (range === undefined) return revisionOf(event.kv) > (this.#listedAt.get(network) ?? 0);
          const early = this.#early.get(network);
          if (early === undefined) this.#leftOut.add(range);
          else early.push(event);
          return false;
        });
    this.to.events(followed);
  }
}
