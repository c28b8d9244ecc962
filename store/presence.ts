// A node's sign of life: its record, and the key under a short etcd lease that says it is up. Kept through every outage,
// and held back where another host has the name or where somebody removed the node while it ran.
import { setTimeout as sleep } from 'node:timers/promises';

import { failedPrecondition, messageOf } from '../core/errors.js';
import { Mutex } from '../core/keyed-mutex.js';
import type { NodeRecord } from '../core/records.js';
import { HeldLease } from './held-lease.js';
import { decodeNode, decodeRemoval, encodeNode } from './record-codec.js';
import { ifReadable } from '../core/parse.js';
import type { Announcement, AnnounceOptions } from './store.js';
import { get, holds, keyAt, put, remove, unchanged, type Context } from './transaction.js';

/** Milliseconds between looks while somebody else has the name. */
const QUIET = 1000;

export class Presence implements Announcement {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #lease: HeldLease | undefined;
  /** The revision at which this process wrote it last: a forced removal after that is meant for it. */
  #writtenAt: number | undefined;
  /** Somebody removed it while it ran: whoever removes it again in a restored etcd must not find it there anew. */
  #expelled = false;
  #toldOf: string | undefined;
  /** The address of another host that was found to have the name. */
  #other: string | undefined;
  readonly #refreshing = new Mutex();

  constructor(
    private readonly context: Context,
    private readonly node: () => NodeRecord,
    private readonly options: AnnounceOptions,
  ) {
    this.#running = this.#run();
  }

  refresh(): void {
    // One after the other, each with what is true then.
    void this.#refreshing.run(async () => {
      if (this.#lease !== undefined)
        await this.#rewrite().catch((error: unknown) => this.#debug('node not written', error));
    });
  }

  /** @throws WeftError FAILED_PRECONDITION where another host has the name */
  checkName(): void {
    const { view } = this.context.replica;
    const { name, instance, publicIp } = this.node();
    const holder = view.alive.get(name);
    // What the view says counts from the start, before etcd was asked.
    const seen = holder === undefined || holder === instance ? undefined : view.nodes.get(name)?.publicIp;
    const other = this.#other ?? seen;
    if (other === undefined || other === publicIp) return;
    throw failedPrecondition(
      `the name ${name} is another node's, at ${other}; this one is at ${publicIp}`,
      'Give one of them another name with --node.',
    );
  }

  async stop(): Promise<void> {
    this.#stop.abort(new Error('stopped'));
    await this.#running;
    await this.#refreshing.idle();
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
    while (!signal.aborted && !this.#expelled) {
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
    const tombstone = keys.removal('node', node.name);
    const { responses } = await client.txn({
      success: [get(alive), get(tombstone), get(keys.node(node.name))],
    });
    const there = keyAt(responses, 0);
    const holder = there?.value.toString();
    const record = keyAt(responses, 2);
    const known = record && ifReadable(() => decodeNode(node.name, record.value.toString()));
    if (holder !== undefined && holder !== node.instance) {
      this.#conflict(holder, known?.publicIp ?? '');
      return undefined;
    }
    // An agent that is away for a moment is no node that is gone: its containers run on, in the subnet under this name.
    if (this.#other !== undefined && record !== undefined && known?.instance !== node.instance)
      return undefined;
    this.#other = undefined;
    this.#toldOf = undefined;
    const removal = keyAt(responses, 1);
    // A tombstone that is older than this node came with a copy.
    if (
      removal !== undefined &&
      Number(removal.mod_revision) > (this.#writtenAt ?? Infinity) &&
      isForced(node.name, removal.value.toString())
    ) {
      this.#expelled = true;
      return undefined;
    }
    const lease = await HeldLease.grant(client, this.options.ttlSeconds);
    const { succeeded, header } = await client
      .txn({
        compare: [
          unchanged(alive, there?.mod_revision ?? 0),
          unchanged(tombstone, removal?.mod_revision ?? 0),
        ],
        success: [
          put(alive, node.instance, lease.id),
          put(keys.node(node.name), encodeNode(node)),
          ...(removal === undefined ? [] : [remove(tombstone)]),
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
    this.#writtenAt = Number(header.revision);
    return { lease, revision: this.#writtenAt };
  }

  #conflict(instance: string, publicIp: string): void {
    // At this host's own address it is an earlier life, whose state directory was lost: it ends by itself.
    this.#other = publicIp === this.node().publicIp ? undefined : publicIp;
    // Once for each other instance; it may stay for ever.
    if (this.#toldOf === instance) return;
    this.#toldOf = instance;
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

const isForced = (name: string, value: string): boolean =>
  ifReadable(() => decodeRemoval('node', name, value))?.forced === true;
