// Work after a burst of notifications, once for all of them.

/** Long enough for the notifications of weft's own steps to come in together. */
const SETTLE_MS = 100;

export class Settle {
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly work: () => void) {}

  /** Does the work soon, unless it is about to be done anyway. */
  soon(): void {
    if (this.#stopped) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.work();
    }, SETTLE_MS);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }
}
