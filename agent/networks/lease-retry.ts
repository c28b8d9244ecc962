// Retries of subnet leases that this node could not acquire, by network.
//
// Not every recovery is an event: another node's release is one, but an etcd that refused a write does not report that it has
// recovered.
import { Backoff } from '../../core/backoff.js';

const FIRST_MS = 5000;
const LAST_MS = 60_000;

interface Due {
  timer: NodeJS.Timeout;
  backoff: Backoff;
}

export class LeaseRetry {
  readonly #due = new Map<string, Due>();
  #stopped = false;

  constructor(
    private readonly take: (network: string) => void,
    private readonly firstMs = FIRST_MS,
  ) {}

  /** Whether the subnet is still to be taken. */
  isDue(network: string): boolean {
    return this.#due.has(network);
  }

  /** It could not be taken now. */
  failed(network: string): void {
    const { backoff } = this.#due.get(network) ?? {
      backoff: new Backoff({ firstMs: this.firstMs, lastMs: LAST_MS }),
    };
    this.end(network);
    if (this.#stopped) return;
    this.#due.set(network, { timer: setTimeout(() => this.take(network), backoff.next()), backoff });
  }

  /** It was acquired, or is not needed any more. */
  end(network: string): void {
    clearTimeout(this.#due.get(network)?.timer);
    this.#due.delete(network);
  }

  stop(): void {
    this.#stopped = true;
    for (const network of [...this.#due.keys()]) this.end(network);
  }
}
