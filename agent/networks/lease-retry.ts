// Subnets that this node could not take, by network: each is asked for again until it is had. Not every cause that goes is
// told of: another node gives its subnet back, but an etcd that refused to write says nothing when it is well again.

const FIRST_MS = 5000;
const LONGEST_MS = 60_000;

interface Due {
  timer: NodeJS.Timeout;
  waitMs: number;
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
    const before = this.#due.get(network);
    this.end(network);
    if (this.#stopped) return;
    const waitMs = before === undefined ? this.firstMs : Math.min(before.waitMs * 2, LONGEST_MS);
    this.#due.set(network, { timer: setTimeout(() => this.take(network), waitMs), waitMs });
  }

  /** It is had, or not wanted any more. */
  end(network: string): void {
    clearTimeout(this.#due.get(network)?.timer);
    this.#due.delete(network);
  }

  stop(): void {
    this.#stopped = true;
    for (const network of [...this.#due.keys()]) this.end(network);
  }
}
