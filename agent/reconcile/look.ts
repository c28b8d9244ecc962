// Looks for what the kernel does not notify of: regularly, and soon after a change.
//
// One at a time. What changes during a look may have been looked at already, so that another one follows.
import { messageOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import { Settle } from './settle.js';

export interface LookOptions {
  /** What fails, for the log; it is tried again by the next look. */
  what: string;
  everyMs: number;
  /** Whether the next regular look finds more than notifications tell. Absent: each may. */
  isDue?: () => boolean;
  /** How long `soon` waits for further changes. */
  settleMs?: number;
  log: Pick<Logger, 'debug'>;
}

export class Look {
  readonly #settle: Settle;
  #timer: NodeJS.Timeout | undefined;
  #running: Promise<void> | undefined;
  #due = false;
  #stopped = false;

  constructor(
    private readonly options: LookOptions,
    private readonly work: () => Promise<void>,
  ) {
    this.#settle = new Settle(() => void this.now(), options.settleMs);
  }

  /** Looks at once, and regularly from then on. @returns when the first look is over */
  start(): Promise<void> {
    this.#timer = setInterval(() => {
      if (this.#running === undefined && this.options.isDue?.() !== false) void this.now();
    }, this.options.everyMs);
    return this.now();
  }

  /** Something has changed, and more may follow. */
  soon(): void {
    this.#settle.soon();
  }

  /** Something has changed. @returns when a look that began after it is over; it never fails */
  async now(): Promise<void> {
    if (this.#stopped) return;
    this.#due = true;
    await (this.#running ??= this.#run());
  }

  async #run(): Promise<void> {
    while (this.#due && !this.#stopped) {
      this.#due = false;
      try {
        await this.work();
      } catch (error) {
        const { log, what } = this.options;
        log.debug('a look has failed', { what, error: messageOf(error) });
      }
    }
    this.#running = undefined;
  }

  /** @returns when nothing runs any more */
  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#timer);
    this.#settle.stop();
    await this.#running;
  }
}
