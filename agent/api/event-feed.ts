// Tells a controller the events that it does not have: one message in flight at a time.
import type { EventLog } from '../../daemon/event-log.js';
import type { Event } from '../../proto/gen/weft/v1/events.js';

/** Of one message. */
const MOST = 100;

export class EventFeed {
  readonly #unsubscribe: () => void;
  #told: number;
  #soon: NodeJS.Immediate | undefined;

  /** @param acknowledged sequence number of the newest event that the controller has */
  constructor(
    private readonly log: Pick<EventLog, 'after' | 'subscribe'>,
    private readonly send: (events: Event[]) => void,
    private acknowledged: number,
  ) {
    this.#told = acknowledged;
    this.#unsubscribe = log.subscribe(() => (this.#soon ??= setImmediate(() => this.#tell())));
    this.#tell();
  }

  /** The controller has them up to this one. */
  acknowledge(sequence: number): void {
    if (sequence <= this.acknowledged) return;
    this.acknowledged = sequence;
    this.#tell();
  }

  stop(): void {
    this.#unsubscribe();
    clearImmediate(this.#soon);
  }

  #tell(): void {
    this.#soon = undefined;
    if (this.#told > this.acknowledged) return;
    const events = this.log.after(this.acknowledged).slice(0, MOST);
    const last = events.at(-1);
    if (last === undefined) return;
    this.#told = last.sequence;
    this.send(events);
  }
}
