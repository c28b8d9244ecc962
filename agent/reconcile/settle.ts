// Runs work once after a burst of notifications.

/** Long enough to collect the notifications of weft's own steps. */
const SETTLE_MS = 100;

export class Settle {
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly work: () => void) {}

  /** Schedules the work, unless it is scheduled already. */
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
