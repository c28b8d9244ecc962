// The presence of a node: its record and its life lease.
//
// The key under the short etcd lease says that the node is up. Both are restored after every outage. They are withheld if
// another host has the name, or if the node was removed while it ran.
import { setTimeout as sleep } from 'node:timers/promises';

import { failedPrecondition, messageOf } from '../core/errors.js';
import { Mutex } from '../core/keyed-mutex.js';
import type { NodeRecord } from '../core/records.js';
import { HeldLease } from './held-lease.js';
import { decodeNode, decodeRemoval, encodeNode } from './record-codec.js';
import { ifReadable } from '../core/parse.js';
import type { Announcement, AnnounceOptions } from './store.js';
import { get, holds, keyAt, put, remove, unchanged, type Context } from './transaction.js';

/** Milliseconds between checks while another node has the name. */
const QUIET = 1000;
/** Milliseconds until what failed is tried again. */
const RETRY = 200;

/** Milliseconds between two times that a record is written back. */
const REWRITE_PAUSE = 300;

/** A life lease, and the revision at which the node was written with it. */
interface Sign {
  lease: HeldLease;
  revision: number;
}

export class Presence implements Announcement {
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  #lease: HeldLease | undefined;
  /** The revision of this process's last write: a forced removal after it is meant for this process. */
  #writtenAt: number | undefined;
  /** The record as this process wrote it last. */
  #written: { text: string; revision: number } | undefined;
  /** Removed while it ran: the node must not reappear when the removal is repeated in a restored etcd. */
  #expelled = false;
  #reported: string | undefined;
  /** The address of another host that has the name. */
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
    // One after the other, each with the record current at its start.
    void this.#refreshing.run(async () => {
      const { signal } = this.#stop;
      // Repeated: the connection often ends with the address that is to be written, and nothing else would write it.
      while (this.#lease !== undefined && !signal.aborted) {
        try {
          await this.context.client.session(signal);
          return await this.#rewrite();
        } catch (error) {
          this.#debug('node not written', error);
          await sleep(RETRY, undefined, { signal }).catch(() => undefined);
        }
      }
    });
  }

  /** @throws WeftError FAILED_PRECONDITION where another host has the name */
  checkName(): void {
    const { view } = this.context.replica;
    const { name, instance, publicIp } = this.node();
    const holder = view.alive.get(name);
    // The view counts from the start, before the first transaction.
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
    // Checked only now: it may have appeared while it was being stopped.
    const lease = this.#lease;
    this.#lease = undefined;
    if (lease === undefined) return;
    const { client, keys } = this.context;
    const node = this.node();
    const alive = keys.alive(node.name);
    // An unreachable etcd must not delay a shutdown; the key then ends with its lease.
    await client
      .txn({ compare: [holds(alive, node.instance)], success: [remove(alive)] })
      .catch((error: unknown) => this.#debug('life lease not revoked', error));
    lease.release();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stop;
    await this.#mayBegin();
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
        wait = RETRY;
      }
      await sleep(wait, undefined, { signal }).catch(() => undefined);
    }
  }

  async #mayBegin(): Promise<void> {
    const { after } = this.options;
    if (after === undefined) return;
    await new Promise<void>((resolve) => {
      this.#stop.signal.addEventListener('abort', () => resolve(), { once: true });
      void after.then(resolve);
    });
  }

  #debug(message: string, error: unknown): void {
    this.context.log.debug(message, { node: this.node().name, error: messageOf(error) });
  }

  /** Writes record and life key; undefined if this node must stay quiet. */
  async #appear(): Promise<Sign | undefined> {
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
    // A brief absence of the agent is no end of its node: the containers run on, in the subnet under this name.
    if (this.#other !== undefined && record !== undefined && known?.instance !== node.instance)
      return undefined;
    this.#other = undefined;
    this.#reported = undefined;
    const removal = keyAt(responses, 1);
    // A tombstone older than this process's last write came with a restored copy.
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
      throw new Error('the node was written concurrently');
    }
    this.#writtenAt = Number(header.revision);
    this.#written = { text: encodeNode(node), revision: this.#writtenAt };
    return { lease, revision: this.#writtenAt };
  }

  #conflict(instance: string, publicIp: string): void {
    // At this host's own address it is an earlier run whose state directory was lost: its lease ends by itself.
    this.#other = publicIp === this.node().publicIp ? undefined : publicIp;
    // Reported once for each other instance; the conflict may last for ever.
    if (this.#reported === instance) return;
    this.#reported = instance;
    this.options.onConflict({ instance, publicIp });
  }

  /** Settles when the life key is absent: its lease ended, it was deleted by hand, or etcd came back without it. */
  async #remain({ lease, revision }: Sign): Promise<void> {
    const { replica, keys } = this.context;
    const { name, instance } = this.node();
    this.#lease = lease;
    // A refresh meanwhile found no lease.
    if (encodeNode(this.node()) !== this.#written?.text) this.refresh();
    const signal = AbortSignal.any([this.#stop.signal, lease.lost]);
    try {
      const alive = keys.alive(name);
      // By its revision: a key written and deleted within one batch never shows up in the view.
      const gone = (): boolean =>
        replica.modRevision(alive) !== revision &&
        replica.includes(alive, revision) &&
        !replica.holds(alive, instance);
      for (;;) {
        await replica.until(() => gone() || this.#isChanged(), signal);
        if (gone()) break;
        this.context.log.warn('somebody else has changed the record of this node: writing it back', {
          node: name,
        });
        await this.#refreshing
          .run(() => this.#rewrite())
          .catch((error: unknown) => this.#debug('node not written back yet', error));
        await sleep(REWRITE_PAUSE, undefined, { signal });
      }
      lease.release();
    } catch {
      // The lease or the announcement ended; the next round decides.
    } finally {
      if (!this.#stop.signal.aborted) this.#lease = undefined;
    }
  }

  async #rewrite(): Promise<void> {
    const { client, keys } = this.context;
    const node = this.node();
    const text = encodeNode(node);
    const before = this.#written;
    // The watch may be faster than the answer.
    this.#written = undefined;
    try {
      const { succeeded, header } = await client.txn({
        compare: [holds(keys.alive(node.name), node.instance)],
        success: [put(keys.node(node.name), text)],
      });
      this.#written = succeeded ? { text, revision: Number(header.revision) } : before;
    } catch (error) {
      this.#written = before;
      throw error;
    }
  }

  /** Whether the record in etcd is not the one that this process wrote last. */
  #isChanged(): boolean {
    const { replica, keys } = this.context;
    const written = this.#written;
    const key = keys.node(this.node().name);
    // This is asked for at every change of anything: first what costs least.
    const now = replica.modRevision(key);
    if (written === undefined || now === undefined || now === written.revision) return false;
    return replica.includes(key, written.revision) && !replica.holds(key, written.text);
  }
}

const isForced = (name: string, value: string): boolean =>
  ifReadable(() => decodeRemoval('node', name, value))?.forced === true;
