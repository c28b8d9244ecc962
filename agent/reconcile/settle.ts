// Runs work once after a burst of notifications.

/** Long enough to collect the notifications of weft's own steps. */
const OWN_STEPS_MS = 100;

export class Settle {
  #timer: NodeJS.Timeout | undefined;
  #stopped = false;

  /** @param afterMs from the first notification of a burst to the work */
  constructor(
    private readonly work: () => void,
    private readonly afterMs = OWN_STEPS_MS,
  ) {}

  /** Schedules the work, unless it is scheduled already. */
  soon(): void {
    if (this.#stopped) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.work();
    }, this.afterMs);
  }

  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }
}
