// An etcd lease that is kept alive until it is released.
//
// It is renewed once half of its time has passed, a third where there are several servers, over any number of connections, and
// counts as lost at the moment at which etcd may have ended it.
import { setTimeout as sleep } from 'node:timers/promises';

import type { EtcdClient } from './client.js';
import type { Session } from './session.js';

/**
 * Milliseconds of the wall clock at whose multiples nodes renew. A request that comes alone wakes etcd for itself: those of
 * fifty nodes cost it a third when they come eight at a time.
 */
const SLOT = 250;

/** Timers may be this early. */
const EARLY = 10;

/** About `ms`, at a multiple of SLOT: at most EARLY later; a short wait is left as it is. @param now milliseconds of the wall clock */
export function untilSlot(ms: number, now = Date.now()): number {
  if (ms < 4 * SLOT) return ms;
  const over = (now + ms) % SLOT;
  return ms - (over < SLOT - EARLY ? over : over - SLOT);
}

export class HeldLease {
  readonly #lost = new AbortController();
  readonly #ttl: number;
  #deadline: number;

  private constructor(
    private readonly client: EtcdClient,
    readonly id: string,
    ttlSeconds: number,
    grantedAt: number,
  ) {
    this.#ttl = ttlSeconds * 1000;
    this.#deadline = grantedAt + this.#ttl;
    void this.#keep();
  }

  /** @throws WeftError UNAVAILABLE */
  static async grant(client: EtcdClient, ttlSeconds: number): Promise<HeldLease> {
    const asked = performance.now();
    return new HeldLease(client, await client.grant(ttlSeconds), ttlSeconds, asked);
  }

  /** Aborted when the lease has ended, may have ended, or was released. */
  get lost(): AbortSignal {
    return this.#lost.signal;
  }

  /** Ends the lease without waiting for etcd; its keys are deleted with it. */
  release(): void {
    if (!this.#lost.signal.aborted) this.#lost.abort(new Error('released'));
    this.client.revoke(this.id);
  }

  async #keep(): Promise<void> {
    const { signal } = this.#lost;
    const expire = (): void => {
      const left = this.#deadline - performance.now();
      // Exactly at its end: a leader by this lease must stop before another one starts.
      if (left <= 0) this.#lost.abort(new Error('etcd has not renewed the lease in time'));
      else timer = setTimeout(expire, left);
    };
    let timer = setTimeout(expire, this.#ttl);
    signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
    while (!signal.aborted) {
      const session = await this.client.session(signal).catch(() => undefined);
      if (session !== undefined) await this.#overSession(session).catch(() => undefined);
      if (!signal.aborted) await sleep(50);
    }
  }

  /** Renews the lease over one connection, until either ends. */
  async #overSession(session: Session): Promise<void> {
    const stream = await session.keepAlive();
    const stop = AbortSignal.any([this.#lost.signal, session.ended]);
    // Responses arrive in the order of the requests. The time counts from the request: etcd's began no earlier.
    const asked: number[] = [];
    const several = this.client.urls.length > 1;
    let timer: NodeJS.Timeout | undefined;
    let doubt: NodeJS.Timeout | undefined;
    try {
      await new Promise<void>((resolve, reject) => {
        const ask = (): void => {
          // Renewals are most of what an idle node costs etcd.
          timer = setTimeout(ask, untilSlot(this.#ttl / (several ? 3 : 2)));
          asked.push(performance.now());
          stream.write({ ID: this.id });
          // With another server, a silent one is left in time for the lease: 1/3 until the request, 1/6 of doubt, 1/5 for the
          // liveness check, and the rest to connect. A single slow server is better waited for.
          if (several) doubt = setTimeout(() => void session.beat(this.#ttl / 5), this.#ttl / 6);
        };
        stream.on('error', reject);
        stream.on('end', resolve);
        stream.on('data', (answer) => {
          session.heard();
          clearTimeout(doubt);
          const since = asked.shift();
          if (Number(answer.TTL) <= 0) this.#lost.abort(new Error('etcd has ended the lease'));
          else if (since !== undefined) this.#deadline = Math.max(this.#deadline, since + this.#ttl);
        });
        stop.addEventListener('abort', () => resolve(), { once: true });
        if (stop.aborted) return resolve();
        ask();
      });
    } finally {
      clearTimeout(timer);
      clearTimeout(doubt);
      // Ended before cancelled: see watcher.ts.
      stream.end();
      stream.cancel();
    }
  }
}
