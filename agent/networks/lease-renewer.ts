// Renewal of one subnet lease: a new etcd lease and a put, ahead of its end.
//
// flannel does it in the same way.
import { messageOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { Store, StoredLease } from '../../store/store.js';
import { networkScope, type ProblemKey, type Problems } from '../health/index.js';

/** flannel's subnet-lease-renew-margin; for short leases a third of their time. */
const MARGIN_SECONDS = 3600;

export const renewAfter = (ttlSeconds: number): number =>
  ttlSeconds - Math.min(MARGIN_SECONDS, ttlSeconds / 3);

export interface LeaseRenewerOptions {
  store: Store;
  log: Logger;
  problems: Problems;
  ttlSeconds: number;
  /** Runs work that excludes taking, changing and releasing the subnet. */
  exclusively: (work: () => Promise<void>) => Promise<void>;
}

const renewalOf = ({ network }: StoredLease): ProblemKey => ({
  scope: networkScope(network),
  kind: 'renewal',
});

export class LeaseRenewer {
  #timer: NodeJS.Timeout | undefined;
  #lease: StoredLease | undefined;
  #expires: Date | undefined;

  constructor(private readonly options: LeaseRenewerOptions) {}

  get expires(): Date | undefined {
    return this.#expires;
  }

  /** @param lease whose etcd lease was made just now */
  hold(lease: StoredLease): void {
    this.stop();
    this.#lease = lease;
    this.options.problems.clear(renewalOf(lease));
    if (lease.reservation) {
      this.#expires = undefined;
      return;
    }
    const { ttlSeconds } = this.options;
    this.#expires = new Date(Date.now() + ttlSeconds * 1000);
    this.#wake(renewAfter(ttlSeconds));
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #wake(seconds: number): void {
    // setTimeout is limited to 2^31 - 1 ms; an early renewal of a lease of years does no harm.
    this.#timer = setTimeout(() => void this.#renewInTurn(), Math.min(seconds * 1000, 2 ** 31 - 1));
  }

  /** A renewal writes the lease as it was when it began: it must not follow a change or a release. */
  async #renewInTurn(): Promise<void> {
    const timer = this.#timer;
    await this.options.exclusively(async () => {
      if (this.#timer === timer && this.#lease !== undefined) await this.#renew(this.#lease, timer);
    });
  }

  async #renew(lease: StoredLease, timer: NodeJS.Timeout | undefined): Promise<void> {
    const { store, log, problems, ttlSeconds } = this.options;
    try {
      const renewed = await store.renewLease(lease, ttlSeconds);
      if (this.#timer === timer) this.hold(renewed);
    } catch (error) {
      log.warn('a subnet could not be renewed', { network: lease.network, error: messageOf(error) });
      problems.set(renewalOf(lease), {
        what: `subnet ${lease.subnet.toString()} of network ${lease.network}`,
        why: `its lease could not be renewed: ${messageOf(error)}`,
        fix: `It is tried again; it ends at ${this.#expires?.toISOString() ?? 'an unknown time'}.`,
      });
      if (this.#timer === timer) this.#wake(Math.min(60, ttlSeconds / 10));
    }
  }
}
