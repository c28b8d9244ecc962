// Exponential backoff: the time before the next attempt of what has failed.
//
// A cause that lasts must not cost more and more, and one that has gone must be noticed soon. The caller waits, with its own
// timer or signal; here is only how long.

export interface BackoffFigures {
  firstMs: number;
  /** No delay is longer, but for its jitter. */
  lastMs: number;
  /** By which each delay is longer than the one before; 2 if not given. */
  factor?: number;
  /** A delay is multiplied by a random number between these two, so that not all nodes come back at once. */
  jitter?: { from: number; to: number };
}

/** Milliseconds after so many attempts that failed, the first of which is 0. */
export function backoffDelay(
  { firstMs, lastMs, factor = 2, jitter = { from: 1, to: 1 } }: BackoffFigures,
  failures: number,
  random: () => number = Math.random,
): number {
  const delay = Math.min(lastMs, firstMs * factor ** failures);
  return delay * (jitter.from + (jitter.to - jitter.from) * random());
}

export class Backoff {
  #failures = 0;

  constructor(
    private readonly figures: BackoffFigures,
    private readonly random: () => number = Math.random,
  ) {}

  /** The delay as it is now, in milliseconds. */
  get delayMs(): number {
    return backoffDelay(this.figures, this.#failures, this.random);
  }

  /** The delay as it is now; the next one is longer. */
  next(): number {
    const { delayMs } = this;
    this.#failures++;
    return delayMs;
  }

  /** An attempt succeeded: the next failure begins with the first delay. */
  reset(): void {
    this.#failures = 0;
  }
}
