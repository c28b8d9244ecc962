// Mutexes: work on the same thing runs one after the other, in the order in which it was asked for.

/** One queue for each key. Work that fails holds up nothing. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` after everything that was asked for under the same key before it. */
  async run<T>(key: string, work: () => Promise<T>): Promise<T> {
    const before = this.#tails.get(key);
    let release = (): void => {};
    const mine = new Promise<void>((resolve) => {
      release = resolve;
    });
    this.#tails.set(key, mine);
    if (before !== undefined) await before;
    try {
      return await work();
    } finally {
      if (this.#tails.get(key) === mine) this.#tails.delete(key);
      release();
    }
  }
}

/** One queue. Work that fails holds up nothing. */
export class Mutex {
  readonly #keyed = new KeyedMutex();

  run<T>(work: () => Promise<T>): Promise<T> {
    return this.#keyed.run('', work);
  }

  /** When everything that was asked for so far has ended. */
  idle(): Promise<void> {
    return this.run(() => Promise.resolve());
  }
}
