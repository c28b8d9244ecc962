// A node's sign of life: its record, and the key under a short etcd lease that says it is up. Kept through every outage,
// and held back where another instance has the name or where somebody removed the node while it ran.
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf } from '../core/errors.js';
import type { NodeRecord } from '../core/records.js';
import { HeldLease } from './held-lease.js';
import { decodeNode, decodeRemoval, encodeNode } from './record-codec.js';
import { UnreadableError } from './parse.js';
import type { Announcement, AnnounceOptions } from './store.js';
import { get, holds, keyAt, put, remove, unchanged, type Context } from './transaction.js';

/** Milliseconds between looks while somebody else has the name. */
const QUIET = 1000;

export class Presence implements Announcement {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #lease: HeldLease | undefined;
  /** Was written once by this process, so that a forced removal is meant for it. */
  #wasThere = false;
  #toldOf: string | undefined;
  #refreshing: Promise<void> = Promise.resolve();

  constructor(
    private readonly context: Context,
    private readonly node: () => NodeRecord,
    private readonly options: AnnounceOptions,
  ) {
    this.#running = this.#run();
  }

  refresh(): void {
    // One after the other, each with what is true then.
    this.#refreshing = this.#refreshing.then(async () => {
      if (this.#lease !== undefined)
        await this.#rewrite().catch((error: unknown) => this.#debug('node not written', error));
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('stopped'));
    await this.#running;
    await this.#refreshing;
    // Asked only now: it may have appeared while it was told to stop.
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease === undefined) return;
    const { client, keys } = this.context;
    const node = this.node();
    const alive = keys.alive(node.name);
    // Etcd being away must not hold a shutdown up; the key then ends with its lease.
    await client
      .txn({ compare: [holds(alive, node.instance)], success: [remove(alive)] })
      .catch((error: unknown) => this.#debug('life lease not given back', error));
    lease.release();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      let wait = QUIET;
      try {
        await this.context.client.session(signal);
        const sign = await this.#appear();
        if (sign !== undefined) {
          await this.#remain(sign);
          wait = 20;
        }
      } catch (error) {
        if (signal.aborted) return;
        this.#debug('node not announced', error);
        wait = 200;
      }
      await sleep(wait, undefined, { signal }).catch(() => undefined);
    }
  }

  #debug(message: string, error: unknown): void {
    this.context.log.debug(message, { node: this.node().name, error: messageOf(error) });
  }

  /** Writes record and sign of life; undefined where this node must stay quiet. */
  async #appear(): Promise<{ lease: HeldLease; revision: number } | undefined> {
    const { client, keys } = this.context;
    const node = this.node();
    const alive = keys.alive(node.name);
    const marker = keys.removal('node', node.name);
    const { responses } = await client.txn({ success: [get(alive), get(marker), get(keys.node(node.name))] });
    const there = keyAt(responses, 0);
    const holder = there?.value.toString();
    if (holder !== undefined && holder !== node.instance) {
      this.#conflict(holder, keyAt(responses, 2)?.value.toString() ?? '');
      return undefined;
    }
    this.#toldOf = undefined;
    const removal = keyAt(responses, 1);
    // Removed while it ran: it stays away until it is started again, or the marker has gone.
    if (removal !== undefined && this.#wasThere && isForced(node.name, removal.value.toString()))
      return undefined;
    const lease = await HeldLease.grant(client, this.options.ttlSeconds);
    const { succeeded, header } = await client
      .txn({
        compare: [unchanged(alive, there?.mod_revision ?? 0), unchanged(marker, removal?.mod_revision ?? 0)],
        success: [
          put(alive, node.instance, lease.id),
          put(keys.node(node.name), encodeNode(node)),
          ...(removal === undefined ? [] : [remove(marker)]),
        ],
      })
      .catch((error: unknown) => {
        lease.release();
        throw error;
      });
    if (!succeeded) {
      lease.release();
      throw new Error('the node was written at the same moment');
    }
    this.#wasThere = true;
    this.options.onAnnounced?.();
    return { lease, revision: Number(header.revision) };
  }

  #conflict(instance: string, record: string): void {
    // Once for each other instance; it may stay for ever.
    if (this.#toldOf === instance) return;
    this.#toldOf = instance;
    let publicIp = '';
    try {
      publicIp = decodeNode(this.node().name, record).publicIp;
    } catch (error) {
      if (!(error instanceof UnreadableError)) throw error;
    }
    this.options.onConflict({ instance, publicIp });
  }

  /** Settles when the sign of life is gone: its lease ended, somebody deleted it, or etcd came back without it. */
  async #remain({ lease, revision }: { lease: HeldLease; revision: number }): Promise<void> {
    const { replica, keys } = this.context;
    const { name, instance } = this.node();
    this.#lease = lease;
    const signal = AbortSignal.any([this.#stop.signal, lease.lost]);
    try {
      const alive = keys.alive(name);
      // By its revision, for what is written and deleted in one breath is never seen to be there.
      const gone = (): boolean => replica.includes(revision) && replica.plain(alive)?.value !== instance;
      await replica.until(gone, signal);
      lease.release();
    } catch {
      // The lease or the announcement ended; the next round sees what is to do.
    } finally {
      if (!this.#stop.signal.aborted) this.#lease = undefined;
    }
  }

  async #rewrite(): Promise<void> {
    const { client, keys } = this.context;
    const node = this.node();
    await client.txn({
      compare: [holds(keys.alive(node.name), node.instance)],
      success: [put(keys.node(node.name), encodeNode(node))],
    });
  }
}

function isForced(name: string, value: string): boolean {
  try {
    return decodeRemoval('node', name, value).forced;
  } catch (error) {
    if (error instanceof UnreadableError) return false;
    throw error;
  }
}
