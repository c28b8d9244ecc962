// Watch streams: all objects, SYNCED, then changes.
//
// A watch keeps names, not messages: a slow reader gets the newest state of each object, and costs no more memory than there
// are objects.
import { setTimeout as delay } from 'node:timers/promises';

import type { ServerWritableStream } from '@grpc/grpc-js';

import { toServiceError } from '../daemon/grpc.js';
import { EventType } from '../proto/gen/weft/v1/controller.js';

export interface WatchSource<Event> {
  /** Keys of all objects that exist now and match. */
  keys(): Iterable<string>;
  /** The current state of one; undefined where it is gone or does not match. May fetch what it needs first. */
  put(key: string): Event | undefined | Promise<Event | undefined>;
  gone(key: string): Event;
  synced(): Event;
  /** Calls back with keys that may have changed. */
  subscribe(listener: (keys: Iterable<string>) => void): () => void;
  /** Changes within this time become one event. Set where events are large. */
  gatherMs: number;
  /** Settles when `keys` is complete. @throws WeftError */
  ready(): Promise<void>;
}

export const { PUT, DELETE, SYNCED } = EventType;

/** Serves one watch until the client ends it. */
export function serveWatch<Event>(
  call: ServerWritableStream<unknown, Event>,
  source: WatchSource<Event>,
): void {
  const watch = new Watch(call, source);
  watch.run().catch((error: unknown) => {
    watch.end();
    // grpc-js sends an emitted error as the status of the stream.
    call.emit('error', toServiceError(error));
  });
}

class Watch<Event> {
  readonly #call: ServerWritableStream<unknown, Event>;
  readonly #source: WatchSource<Event>;
  readonly #dirty = new Set<string>();
  /** What the client has been sent. */
  readonly #told = new Set<string>();
  readonly #unsubscribe: () => void;
  #over = false;
  #onDirty: () => void = () => undefined;
  #onDrain: () => void = () => undefined;

  constructor(call: ServerWritableStream<unknown, Event>, source: WatchSource<Event>) {
    this.#call = call;
    this.#source = source;
    this.#unsubscribe = source.subscribe((keys) => {
      for (const key of keys) this.#dirty.add(key);
      this.#onDirty();
    });
    const end = (): void => this.end();
    call.once('cancelled', end).once('close', end).once('error', end);
    call.on('drain', () => this.#onDrain());
  }

  async run(): Promise<void> {
    await this.#source.ready();
    for (const key of this.#source.keys()) this.#dirty.add(key);
    await this.#flush();
    await this.#write(this.#source.synced());
    while (!this.#over) {
      await this.#somethingDirty();
      if (this.#source.gatherMs > 0) await delay(this.#source.gatherMs);
      await this.#flush();
    }
  }

  end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#unsubscribe();
    this.#onDirty();
    this.#onDrain();
  }

  // Keys that become dirty meanwhile are visited by the same loop: a Set iterates over what is added during iteration.
  async #flush(): Promise<void> {
    for (const key of this.#dirty) {
      if (this.#over) return;
      this.#dirty.delete(key);
      const event = await this.#source.put(key);
      if (event !== undefined) {
        this.#told.add(key);
        await this.#write(event);
      } else if (this.#told.delete(key)) {
        await this.#write(this.#source.gone(key));
      }
    }
  }

  async #write(event: Event): Promise<void> {
    if (this.#over || this.#call.write(event)) return;
    await new Promise<void>((resolve) => {
      this.#onDrain = resolve;
    });
  }

  async #somethingDirty(): Promise<void> {
    if (this.#dirty.size > 0 || this.#over) return;
    await new Promise<void>((resolve) => {
      this.#onDirty = resolve;
    });
  }
}
