// Several watches on one stream of etcd, begun while it runs and ended with it.
import type { Etcd3, IWatchResponse } from 'etcd3';

import type { KeyRange } from './keys.js';

/** A range of keys, and up to which revision its events have been delivered. */
export interface Part extends KeyRange {
  revision: number;
}

export type Stream = Awaited<ReturnType<Etcd3['watchClient']['watch']>>;

export class WatchStream {
  /** Not created yet, in the order in which etcd answers. */
  readonly #awaited: Part[] = [];
  readonly #byId = new Map<string, Part>();

  constructor(
    private readonly stream: Pick<Stream, 'write'>,
    /** The newest revision that was delivered before. */
    readonly begunAt: number,
  ) {}

  /** Whether etcd has answered all that was begun. */
  get isComplete(): boolean {
    return this.#awaited.length === 0;
  }

  begin(part: Part): void {
    this.#awaited.push(part);
    const { key, range_end, revision } = part;
    // A range without events falls behind otherwise: etcd would read all since then again, or has compacted it.
    const create_request = { key, range_end, start_revision: revision + 1, progress_notify: true };
    this.stream.write({ create_request });
  }

  /** Whose response it is; undefined: of none that was begun here. */
  partOf({ created, watch_id: id }: IWatchResponse): Part | undefined {
    if (!created) return this.#byId.get(id);
    const part = this.#awaited.shift();
    if (part !== undefined) this.#byId.set(id, part);
    return part;
  }
}
