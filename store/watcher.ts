// Follows all keys below the prefix: one list, then one watch.
//
// It continues through every disconnect, compaction and restore; nothing is missed and nothing delivered twice. It handles
// bytes and revisions only; replica.ts decodes them.
//
// etcd sends what a watch missed in batches of a thousand revisions whose headers already name the newest one. The position
// to continue from is therefore the last event's own revision, never the header's.
import type { IEvent, IKeyValue, IWatchResponse } from 'etcd3';

import type { EtcdClient, StoreLog } from './client.js';
import { CallFailure, describe, failureOf } from './failures.js';
import type { KeyRange } from './keys.js';
import type { Session } from './session.js';

export interface Following {
  /**
   * All keys at this revision; a key not in it is deleted. `restored`: the list is of another history than before, and the
   * keys that are absent were lost with it.
   */
  list(kvs: readonly IKeyValue[], revision: number, restored: boolean): void;
  /** Whole transactions, in order. */
  events(events: readonly IEvent[], revision: number): void;
  /** The connection is established and the watch runs, or it is lost. */
  connected(up: boolean, error?: string): void;
}

const PAGE = 1000;

const revisionOf = (kv: IKeyValue): number => Number(kv.mod_revision);

/** Milliseconds: calls that take the server long have a longer deadline than a command's. */
const LIST_DEADLINE = 10_000;

export class Watcher {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** Everything up to here has been delivered; -1 before the first list. */
  #revision = -1;
  /** The history that #revision belongs to. */
  #epoch = 0;
  /** The last event, by which the same history is recognised. */
  #anchor: IKeyValue | undefined;

  constructor(
    private readonly client: EtcdClient,
    private readonly range: KeyRange,
    private readonly to: Following,
    private readonly log: StoreLog,
  ) {
    this.#running = this.#run();
  }

  async close(): Promise<void> {
    this.#stop.abort(new CallFailure('unsent', 'the store was closed'));
    await this.#running;
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
    for (;;) await this.#list(session, (await this.#watch(session, signal)) === 'restored');
  }

  /** What etcd has of the history that this watcher has seen. */
  async #past(session: Session): Promise<'same' | 'other' | 'unknown'> {
    if (this.#revision < 0) return 'unknown';
    return this.#epoch === this.client.epoch ? await this.#anchored(session) : 'other';
  }

  async #list(session: Session, restored: boolean): Promise<void> {
    for (;;) {
      try {
        const epoch = this.client.epoch;
        const { kvs, revision } = await this.#pages(session);
        this.#revision = revision;
        this.#epoch = epoch;
        this.#anchor = kvs.reduce<IKeyValue | undefined>(
          (a, b) => (a === undefined || revisionOf(b) > revisionOf(a) ? b : a),
          undefined,
        );
        this.to.list(kvs, revision, restored);
        return;
      } catch (error) {
        // Compacted between two pages: start again, at a newer revision.
        if (!(error instanceof CallFailure) || error.kind !== 'compacted') throw error;
      }
    }
  }

  /** All pages at the revision of the first one. */
  async #pages(session: Session): Promise<{ kvs: IKeyValue[]; revision: number }> {
    const kvs: IKeyValue[] = [];
    let from = this.range.key;
    let revision = 0;
    for (;;) {
      const request = { key: from, range_end: this.range.range_end, limit: PAGE, revision };
      const page = await session.call((etcd, options) => etcd.kv.range(request, options), {
        timeout: LIST_DEADLINE,
        observed: revision === 0,
      });
      if (revision === 0) revision = Number(page.header.revision);
      kvs.push(...page.kvs);
      const last = page.kvs.at(-1);
      if (!page.more || last === undefined) return { kvs, revision };
      from = Buffer.concat([last.key, Buffer.of(0)]);
    }
  }

  /**
   * Revision and cluster id reveal most restores; a copy that has since grown past the old revision is only recognised by
   * what it has in place of the last event.
   */
  async #anchored(session: Session): Promise<'same' | 'other' | 'unknown'> {
    const anchor = this.#anchor;
    if (anchor === undefined) return 'same';
    try {
      const { kvs } = await session.call(
        (etcd, options) => etcd.kv.range({ key: anchor.key, revision: anchor.mod_revision }, options),
        { observed: false },
      );
      const found = kvs[0];
      const same =
        found !== undefined &&
        found.mod_revision === anchor.mod_revision &&
        found.version === anchor.version &&
        found.lease === anchor.lease &&
        found.value.equals(anchor.value);
      if (!same)
        this.log.warn('etcd has another history than before: restored from a copy', {
          revision: revisionOf(anchor),
        });
      return same ? 'same' : 'other';
    } catch (error) {
      if (error instanceof CallFailure && error.kind === 'future') return 'other';
      // It can no longer be known: another list costs little compared with continuing from another history.
      if (error instanceof CallFailure && error.kind === 'compacted') return 'unknown';
      throw error;
    }
  }

  /** Delivers events until a new list is needed; returns why. @throws CallFailure when the stream breaks */
  async #watch(session: Session, signal: AbortSignal): Promise<'compacted' | 'restored'> {
    const stream = await session.watch();
    const { ended } = session;
    let stop: () => void = () => undefined;
    try {
      return await new Promise((resolve, reject) => {
        stop = () => reject((signal.aborted ? signal.reason : ended.reason) as Error);
        signal.addEventListener('abort', stop);
        ended.addEventListener('abort', stop);
        if (signal.aborted || ended.aborted) stop();
        stream.on('error', reject);
        stream.on('end', () => reject(new CallFailure('connection', 'the watch was ended')));
        stream.on('data', (response) => {
          try {
            session.heard();
            const why = this.#take(response);
            if (why !== undefined) resolve(why);
          } catch (error) {
            reject(failureOf(error));
          }
        });
        const { key, range_end } = this.range;
        stream.write({ create_request: { key, range_end, start_revision: this.#revision + 1 } });
      });
    } finally {
      signal.removeEventListener('abort', stop);
      ended.removeEventListener('abort', stop);
      // Ended before cancelled: etcd3 takes a stream that fails while it is open for a broken host, and closes all others.
      stream.end();
      stream.cancel();
    }
  }

  /** Returns why a new list is needed, if it is. */
  #take(response: IWatchResponse): 'compacted' | 'restored' | undefined {
    if (Number(response.compact_revision) > 0) {
      this.log.warn('etcd has compacted revisions that this watch still needed; listing all keys again', {
        revision: this.#revision,
      });
      return 'compacted';
    }
    if (response.canceled)
      throw new CallFailure('connection', `the watch was cancelled: ${response.cancel_reason}`);
    if (response.created) {
      // A watch from a future revision is silent until that revision exists, and misses all before it.
      if (Number(response.header.revision) < this.#revision) {
        this.log.warn('etcd has gone back behind the revision of this watch; listing all keys again', {
          revision: Number(response.header.revision),
          before: this.#revision,
        });
        return 'restored';
      }
      this.to.connected(true);
    }
    // Events up to #revision were delivered before; etcd does not send them again, but the check keeps the contract by itself.
    const events = response.events.filter((event) => revisionOf(event.kv) > this.#revision);
    const last = events.at(-1);
    if (last === undefined) return undefined;
    this.#revision = revisionOf(last.kv);
    this.client.saw(this.#revision);
    this.#anchor = events.findLast((event) => event.type === 'Put')?.kv ?? this.#anchor;
    this.to.events(events, this.#revision);
    return undefined;
  }
}
