// Expiry times of the subnets' etcd leases.
//
// etcd answers for one lease a call, so answers are cached. The end of a lease never moves: a renewal is a new lease.
import type { Logger } from '../daemon/log.js';
import type { Store, StoredLease } from '../store/store.js';
import { timestamp, type Clock } from './clock.js';

/** Also the longest time for which a lease that was revoked or kept alive by hand is shown wrongly. */
const KEEP_MS = 5000;
/** With etcd slow or away, a list shows the last known expiry times rather than waiting. */
const WAIT_MS = 1000;

interface Known {
  /** Milliseconds since 1970. */
  expires: number | undefined;
  readAt: number;
}

export class LeaseTimes {
  /** By the id of the etcd lease. */
  readonly #known = new Map<string, Known>();
  readonly #options: { store: Store; clock: Clock; log: Logger };

  constructor(options: { store: Store; clock: Clock; log: Logger }) {
    this.#options = options;
  }

  /** RFC 3339; undefined for a reservation, and for a lease that has not been asked for yet. */
  expiry({ etcdLease }: StoredLease): string | undefined {
    const expires = this.#known.get(etcdLease)?.expires;
    return expires === undefined ? undefined : timestamp(expires);
  }

  /** Asks for those that are unknown or too old. Never fails. */
  async refresh(leases: readonly StoredLease[]): Promise<void> {
    const { store, clock } = this.#options;
    const now = clock.now();
    const old = leases.filter(({ reservation, etcdLease }) => {
      return !reservation && now - (this.#known.get(etcdLease)?.readAt ?? -Infinity) > KEEP_MS;
    });
    if (old.length === 0 || !store.state.connected) return;
    await new Promise<void>((resolve) => {
      const cancel = clock.after(WAIT_MS, resolve);
      void this.#ask(old).finally(() => {
        cancel();
        resolve();
      });
    });
  }

  async #ask(leases: readonly StoredLease[]): Promise<void> {
    const { store, clock, log } = this.#options;
    try {
      const times = await store.leaseTimes(leases);
      const now = clock.now();
      this.#dropOld(now);
      for (const lease of leases) {
        const seconds = times.get(lease);
        const expires = seconds === undefined ? undefined : now + seconds * 1000;
        this.#known.set(lease.etcdLease, { expires, readAt: now });
      }
    } catch (error) {
      log.debug('the expiry of subnets could not be read', { error });
    }
  }

  // Entries that were not asked for within an hour belong to leases that are gone.
  #dropOld(now: number): void {
    for (const [id, { readAt }] of this.#known) if (now - readAt > 3_600_000) this.#known.delete(id);
  }
}
