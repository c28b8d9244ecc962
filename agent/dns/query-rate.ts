// The rate of queries by TCP, for each client.
//
// Queries by UDP are counted by the firewall, at the client's port. By TCP dozens are in one packet, so they are counted here; a
// client that is too fast waits, because the kernel then takes no more from it.
import { QUERY_LIMIT } from '../../core/firewall.js';

/** How long a client waits that is too fast: for the next 50 queries, not for one at a time. */
export const QUERY_WAIT_MS = 50;
/** Beyond so many, clients that have been quiet are forgotten. */
const MAX_KNOWN = 1024;

interface Client {
  /** How many it may send at once, at that time. */
  left: number;
  at: number;
}

export class QueryRate {
  readonly #clients = new Map<string, Client>();

  /** @param now a clock in milliseconds */
  constructor(private readonly now: () => number = () => performance.now()) {}

  /** Counts a query of the client. @returns false, and counts none, where it is too fast */
  take(ip: string): boolean {
    const now = this.now();
    const client = this.#clients.get(ip);
    const left = client === undefined ? QUERY_LIMIT.burst : this.#leftOf(client, now);
    if (left < 1) return false;
    if (client === undefined && this.#clients.size >= MAX_KNOWN) this.#forget(now);
    this.#clients.set(ip, { left: left - 1, at: now });
    return true;
  }

  #leftOf({ left, at }: Client, now: number): number {
    return Math.min(QUERY_LIMIT.burst, left + ((now - at) * QUERY_LIMIT.rate) / 1000);
  }

  /** Who has been quiet is as one who has never asked. */
  #forget(now: number): void {
    for (const [ip, client] of this.#clients)
      if (this.#leftOf(client, now) === QUERY_LIMIT.burst) this.#clients.delete(ip);
  }
}
