// Mutexes, one for each key, in order of request.

/** One queue for each key. Work that fails does not block the queue. */
export class KeyedMutex {
  readonly #tails = new Map<string, Promise<void>>();

  /** Runs `work` after all earlier work of the same key. */
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

/** One queue. Work that fails does not block the queue. */
export class Mutex {
  readonly #keyed = new KeyedMutex();

  run<T>(work: () => Promise<T>): Promise<T> {
    return this.#keyed.run('', work);
  }

  /** Resolves when all work so far has ended. */
  idle(): Promise<void> {
    return this.run(() => Promise.resolve());
  }
}
