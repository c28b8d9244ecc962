// Exponential backoff: the delay before the next attempt after a failure.
//
// A lasting cause must not cost more and more, and its end must be noticed soon. The caller waits, with its own timer or signal;
// this file only computes how long.

export interface BackoffFigures {
  firstMs: number;
  /** Upper bound of the delay, before jitter. */
  lastMs: number;
  /** Factor between one delay and the next; default 2. */
  factor?: number;
  /** Bounds of the random factor of each delay, so that nodes do not all return at once. */
  jitter?: { from: number; to: number };
}

/** Delay in milliseconds after this many failed attempts, the first of which is 0. */
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

  /** The present delay, in milliseconds. */
  get delayMs(): number {
    return backoffDelay(this.figures, this.#failures, this.random);
  }

  /** Returns the present delay; the next one is longer. */
  next(): number {
    const { delayMs } = this;
    this.#failures++;
    return delayMs;
  }

  /** After a success: the next failure begins with the first delay. */
  reset(): void {
    this.#failures = 0;
  }
}
