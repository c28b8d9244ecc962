// Events of one daemon: the newest in memory, more in two files of JSON lines.
//
// Equal events within a minute become two: the first, and one that counts the others. What is in the files survives a
// restart, and a line that was torn by one is left out.
import { readFileSync } from 'node:fs';

import { REASONS, type EventReason } from '../core/events.js';
import { visible } from '../core/text.js';
import { Event } from '../proto/gen/weft/v1/events.js';
import type { Logger } from './log.js';
import { RotatingFile } from './rotating-file.js';

/** Two files of them. */
const MOST_BYTES = 2 * 1024 * 1024;
const MOST_IN_MEMORY = 1000;
/** Equal events within this time are counted. */
const EQUAL_WITHIN_MS = 60_000;
/** Events that others may be equal to. */
const MOST_COUNTED = 1000;
/** Lines that come within this time are written together. */
const GATHER_MS = 100;
const LONGEST = { object: 300, message: 1000, actor: 200 } as const;

export interface Happening {
  reason: EventReason;
  /** KIND/NAME, see core/events.ts. */
  object: string;
  message: string;
  /** Who caused it; absent where nobody asked for it. */
  actor?: string;
}

export interface EventLogOptions {
  /** Of the file; undefined: there is none. */
  path: string | undefined;
  /** Name of the node; empty for a controller. */
  node: string;
  log: Pick<Logger, 'error'>;
  /** Milliseconds since 1970. */
  now?: () => number;
  mostBytes?: number;
}

interface Counted {
  first: Event;
  until: number;
  repeats: number;
  last: number;
}

export class EventLog {
  readonly #options: EventLogOptions;
  readonly #now: () => number;
  readonly #file: RotatingFile | undefined;
  readonly #listeners = new Set<(event: Event) => void>();
  readonly #counted = new Map<string, Counted>();
  readonly #sweeper: NodeJS.Timeout;
  #events: Event[];
  #lines = '';
  #writer: NodeJS.Timeout | undefined;

  constructor(options: EventLogOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    const { path, log, mostBytes = MOST_BYTES } = options;
    this.#file =
      path === undefined
        ? undefined
        : new RotatingFile({ path, what: 'the file of events', mostBytes, kept: 1, log });
    this.#events =
      path === undefined ? [] : [...eventsIn(`${path}.1`), ...eventsIn(path)].slice(-MOST_IN_MEMORY);
    this.#sweeper = setInterval(() => this.#sweep(), EQUAL_WITHIN_MS / 6).unref();
  }

  /** In the order in which they happened. */
  list(): readonly Event[] {
    return this.#events;
  }

  /** Events after the one with this sequence number. */
  after(sequence: number): Event[] {
    return this.#events.filter((event) => event.sequence > sequence);
  }

  subscribe(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  record({ reason, object, message, actor = '' }: Happening): void {
    const time = this.#now();
    const event: Omit<Event, 'time' | 'sequence' | 'count'> = {
      type: REASONS[reason],
      node: this.#options.node,
      reason,
      object: object.slice(0, LONGEST.object),
      message: message.slice(0, LONGEST.message),
      actor: actor.slice(0, LONGEST.actor),
    };
    const identity = JSON.stringify(event);
    const known = this.#counted.get(identity);
    if (known !== undefined && time < known.until && time >= known.until - EQUAL_WITHIN_MS) {
      known.repeats += 1;
      known.last = time;
      return;
    }
    if (known !== undefined) this.#end(identity, known);
    const first = this.#add(event, time, 1);
    if (this.#counted.size >= MOST_COUNTED) this.#endOldest();
    this.#counted.set(identity, { first, until: time + EQUAL_WITHIN_MS, repeats: 0, last: time });
  }

  /** Writes what is still to be written. */
  close(): void {
    clearInterval(this.#sweeper);
    for (const [identity, counted] of this.#counted) this.#end(identity, counted);
    this.#write();
    this.#file?.close();
  }

  #add(about: Omit<Event, 'time' | 'sequence' | 'count'>, time: number, count: number): Event {
    // Not a mere counter: numbers must grow also where the files were lost.
    const sequence = Math.max((this.#events.at(-1)?.sequence ?? 0) + 1, time);
    const event: Event = { ...about, time: new Date(time).toISOString(), count, sequence };
    this.#events.push(event);
    if (this.#events.length > 2 * MOST_IN_MEMORY) this.#events = this.#events.slice(-MOST_IN_MEMORY);
    this.#lines += `${visible(JSON.stringify(event))}\n`;
    this.#writer ??= setTimeout(() => this.#write(), GATHER_MS);
    for (const listener of this.#listeners) listener(event);
    return event;
  }

  #write(): void {
    clearTimeout(this.#writer);
    this.#writer = undefined;
    if (this.#lines !== '') this.#file?.write(this.#lines);
    this.#lines = '';
  }

  #sweep(): void {
    const now = this.#now();
    for (const [identity, counted] of this.#counted) if (counted.until <= now) this.#end(identity, counted);
  }

  #endOldest(): void {
    const [oldest] = this.#counted;
    if (oldest !== undefined) this.#end(...oldest);
  }

  #end(identity: string, { first, repeats, last }: Counted): void {
    this.#counted.delete(identity);
    if (repeats > 0) this.#add(first, last, repeats);
  }
}

function eventsIn(path: string): Event[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    // There are none yet. What cannot be read cannot be written either, which is logged.
    return [];
  }
  return text.split('\n').flatMap((line) => {
    try {
      const event = Event.fromJSON(JSON.parse(line));
      return Number.isSafeInteger(event.sequence) && event.sequence > 0 ? [event] : [];
    } catch {
      return [];
    }
  });
}
