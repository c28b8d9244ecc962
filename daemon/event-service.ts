// EventService, as agent and controller serve it.
import { Metadata, type ServerWritableStream } from '@grpc/grpc-js';

import { invalidArgument, resourceExhausted } from '../core/errors.js';
import { EVENT_TYPES, isAbout, parseEventObject } from '../core/events.js';
import type { Event, EventServiceServer, WatchEventsRequest } from '../proto/gen/weft/v1/events.js';
import { toServiceError } from './grpc.js';

export interface EventSource {
  /** In order of time. */
  list(): readonly Event[];
  subscribe(listener: (event: Event) => void): () => void;
}

/** Events that wait for a caller who reads slowly. */
const MOST_WAITING = 1000;

export const eventService = (source: EventSource): EventServiceServer => ({
  watchEvents: (call) => {
    try {
      new Watch(call, source, matcherOf(call.request)).run();
    } catch (error) {
      // grpc-js sends an emitted error as the status of the stream.
      call.emit('error', toServiceError(error));
    }
  },
});

/** @throws WeftError INVALID_ARGUMENT */
function matcherOf({ since, object, type }: WatchEventsRequest): (event: Event) => boolean {
  const from = since === '' ? -Infinity : Date.parse(since);
  if (Number.isNaN(from)) throw invalidArgument(`since: "${since}" is not a time`, 'Give RFC 3339.');
  if (type !== '' && !EVENT_TYPES.some((one) => one === type))
    throw invalidArgument(`type: "${type}" is no type of events`, `Give ${EVENT_TYPES.join(' or ')}.`);
  const about = object === '' ? undefined : parseEventObject(object, 'object');
  return (event) =>
    (type === '' || event.type === type) &&
    (about === undefined || isAbout(event, about)) &&
    Date.parse(event.time) >= from;
}

class Watch {
  readonly #waiting: Event[] = [];
  #isFull = false;
  #isComplete = false;
  #unsubscribe: () => void = () => undefined;

  constructor(
    private readonly call: ServerWritableStream<WatchEventsRequest, Event>,
    private readonly source: EventSource,
    private readonly matches: (event: Event) => boolean,
  ) {}

  run(): void {
    const { call, source, matches } = this;
    const { last, follow } = call.request;
    // The caller knows by this that the call is being served.
    call.sendMetadata(new Metadata());
    const known = source.list().filter(matches);
    const begun = this.#waiting.push(...(last === 0 ? known : known.slice(-last)));
    if (follow) {
      this.#unsubscribe = source.subscribe((event) => {
        if (!matches(event)) return;
        if (this.#waiting.length < begun + MOST_WAITING) this.#waiting.push(event);
        else this.#fail();
        this.#flush();
      });
      const end = (): void => this.#unsubscribe();
      call.once('cancelled', end).once('close', end).once('error', end);
    }
    this.#isComplete = !follow;
    call.on('drain', () => {
      this.#isFull = false;
      this.#flush();
    });
    this.#flush();
  }

  #flush(): void {
    while (!this.#isFull) {
      const event = this.#waiting.shift();
      if (event === undefined) break;
      this.#isFull = !this.call.write(event);
    }
    if (!this.#isComplete || this.#waiting.length > 0) return;
    this.#isComplete = false;
    this.call.end();
  }

  #fail(): void {
    this.#unsubscribe();
    this.#waiting.length = 0;
    const slow = resourceExhausted('events come faster than they are read', 'Ask again with --since.');
    this.call.emit('error', toServiceError(slow));
  }
}
