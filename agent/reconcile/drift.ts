// What had to be put right again, and how often: something else that keeps undoing weft's work is reported, and then put
// right only by the regular comparison, not fought over in a loop.
import type { Problems } from '../health/index.js';

/** This often within the window, and it is somebody's doing. */
const CONTESTED_AFTER = 5;
const WINDOW_MS = 60_000;

export class Drift {
  readonly #times = new Map<string, number[]>();

  constructor(
    private readonly problems: Problems,
    private readonly now: () => number = () => performance.now(),
  ) {}

  repaired(key: string, what: string): void {
    const times = [...this.#recent(key), this.now()];
    this.#times.set(key, times);
    if (times.length < CONTESTED_AFTER) return;
    this.problems.set(`contested ${key}`, {
      what,
      why: `it was changed by something else ${CONTESTED_AFTER} times within a minute`,
      fix: 'Find what does it (a network manager, a script); weft now puts it right every 10 seconds only.',
    });
  }

  contested(key: string): boolean {
    return this.#recent(key).length >= CONTESTED_AFTER;
  }

  /** Forgets what has been left in peace for a while. */
  sweep(): void {
    for (const key of [...this.#times.keys()]) this.#recent(key);
  }

  #recent(key: string): number[] {
    const times = (this.#times.get(key) ?? []).filter((time) => time > this.now() - WINDOW_MS);
    if (times.length === 0) this.#times.delete(key);
    else this.#times.set(key, times);
    if (times.length < CONTESTED_AFTER) this.problems.clear(`contested ${key}`);
    return times;
  }
}
