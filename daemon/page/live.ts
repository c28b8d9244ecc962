// The live stream of one browser: watches of the controller's services, gathered into lists.
import { setTimeout as delay } from 'node:timers/promises';

import type { ClientReadableStream } from '@grpc/grpc-js';

import { messageOf, WeftError } from '../../core/errors.js';
import { EventType } from '../../proto/gen/weft/v1/controller.js';
import type { Event } from '../../proto/gen/weft/v1/events.js';
import type { ServiceClient, ServiceName, Source } from './source.js';
import { keyOf, type Failure, type Feed, type Update, type Watched, type WatchedKind } from './update.js';

/** Settles when the browser can take more. */
export type SendUpdate = (update: Update) => Promise<void>;
/** The method as the table of rights has it, such as `NodeService/WatchNodes`. @throws WeftError where it may not be called */
export type CheckRight = (method: string) => void;

const STATUS_MS = 2000;
/** Before a watch that has ended is begun again. */
const AGAIN_MS = 1000;
/** As before, where the controller refuses: it hardly changes its mind. */
const REFUSED_MS = 15_000;
const REFUSALS: ReadonlySet<string> = new Set(['PERMISSION_DENIED', 'UNAUTHENTICATED', 'UNIMPLEMENTED']);
/** Changes within this time are one update, of at most so many objects. */
const GATHER_MS = 50;
const MOST_OF_UPDATE = 500;
/** As many events as the page shows. */
const MOST_EVENTS = 500;

/** Settles after the signal's abort. */
export async function serveLive(options: {
  source: Source;
  checkRight: CheckRight;
  send: SendUpdate;
  signal: AbortSignal;
}): Promise<void> {
  const { signal } = options;
  // The first view shows the status: what may be tens of thousands of objects begins after it.
  let hasStatus = (): void => undefined;
  const status = new Promise<void>((resolve) => (hasStatus = resolve));
  const send = async (update: Update): Promise<void> => {
    await options.send(update);
    if (update.kind === 'status' || (update.kind === 'lost' && update.of === 'status')) hasStatus();
  };
  const polling = keepOn('status', send, signal, (found) => pollStatus(options, send, found));
  const rest = async (): Promise<void> => {
    await status;
    await Promise.all([followEvents(options), ...watches(options)]);
  };
  await Promise.all([polling.finally(hasStatus), rest()]);
}

type Options = Parameters<typeof serveLive>[0];

async function followEvents({ source, checkRight, send, signal }: Options): Promise<void> {
  const request = { since: '', object: '', type: '', last: MOST_EVENTS, follow: true };
  await keepOn('event', send, signal, async (found) => {
    checkRight('EventService/WatchEvents');
    const gathered = new Gathered<Event>((put) => send({ kind: 'event', put }));
    const watchEvents = (client: ServiceClient<'EventService'>): ClientReadableStream<Event> =>
      client.watchEvents(request).once('metadata', () => void found().catch(() => undefined));
    try {
      await source.read('EventService', watchEvents, (event) => gathered.add(event), signal);
    } finally {
      await gathered.flush();
    }
  });
}

function watches(options: Options): Promise<void>[] {
  const { checkRight, send, signal } = options;
  const watch = (of: WatchedKind, method: string, work: (found: Found) => Promise<void>): Promise<void> =>
    keepOn(of, send, signal, (found) => {
      checkRight(method);
      return work(found);
    });
  const all = { network: '', node: '' };
  return [
    watch('node', 'NodeService/WatchNodes', (found) =>
      watchInto(
        { ...options, found },
        ...(['node', 'NodeService'] as const),
        (it) => it.watchNodes({}),
        ({ node }) => node,
      ),
    ),
    watch('network', 'NetworkService/WatchNetworks', (found) =>
      watchInto(
        { ...options, found },
        ...(['network', 'NetworkService'] as const),
        (it) => it.watchNetworks({}),
        ({ network }) => network,
      ),
    ),
    watch('endpoint', 'EndpointService/WatchEndpoints', (found) =>
      watchInto(
        { ...options, found },
        ...(['endpoint', 'EndpointService'] as const),
        (it) => it.watchEndpoints(all),
        ({ endpoint }) => endpoint,
      ),
    ),
  ];
}

/** Tells the browser that what comes is live, unless it knows. */
type Found = () => Promise<void>;

/** Does it again and again. The browser is told when it fails, once. */
async function keepOn(
  of: Feed,
  send: SendUpdate,
  signal: AbortSignal,
  work: (found: Found) => Promise<void>,
): Promise<void> {
  // At first the browser knows of nothing that is live.
  let told: string | undefined = '';
  const found = async (): Promise<void> => {
    if (told === undefined) return;
    told = undefined;
    await send({ kind: 'found', of });
  };
  while (!signal.aborted) {
    let failure: Failure;
    try {
      await work(found);
      failure = { code: 'UNAVAILABLE', message: 'the controller has ended the stream', next: null };
    } catch (error) {
      failure = failureOf(error);
    }
    if (signal.aborted) return;
    const text = JSON.stringify(failure);
    if (text !== told) await send({ kind: 'lost', of, failure }).catch(() => undefined);
    told = text;
    await delay(REFUSALS.has(failure.code) ? REFUSED_MS : AGAIN_MS, undefined, { signal }).catch(
      () => undefined,
    );
  }
}

export const failureOf = (error: unknown): Failure =>
  error instanceof WeftError
    ? { code: error.code, message: error.message, next: error.next ?? null }
    : { code: 'INTERNAL', message: `a fault in weft: ${messageOf(error)}`, next: null };

async function pollStatus(
  { source, checkRight, signal }: Options,
  send: SendUpdate,
  found: Found,
): Promise<void> {
  let sent = '';
  while (!signal.aborted) {
    checkRight('StatusService/GetStatus');
    const status = await source.ask('StatusService', (it) => it.getStatus, {});
    await found();
    // The revision alone is no change that anybody sees.
    const text = JSON.stringify({ ...status, store: { ...status.store, revision: 0 } });
    if (text !== sent) await send({ kind: 'status', status });
    sent = text;
    await delay(STATUS_MS, undefined, { signal }).catch(() => undefined);
  }
}

interface WatchMessage {
  type: EventType;
}

/** One watch, until it ends. */
async function watchInto<K extends WatchedKind, S extends ServiceName, M extends WatchMessage>(
  { source, send, signal, found }: Options & { found: Found },
  kind: K,
  service: S,
  start: (client: ServiceClient<S>) => ClientReadableStream<M>,
  objectOf: (message: M) => Watched[K] | undefined,
): Promise<void> {
  await send({ kind: 'begin', of: kind });
  const gathered = new Gathered<M>(async (messages) => {
    // The last word about an object counts.
    const last = new Map<string, Watched[K] | undefined>();
    for (const message of messages) {
      const object = objectOf(message);
      if (object === undefined) continue;
      last.set(keyOf[kind](object), message.type === EventType.DELETE ? undefined : object);
    }
    const put = [...last.values()].filter((object) => object !== undefined);
    const gone = [...last].filter(([, object]) => object === undefined).map(([key]) => key);
    // TypeScript does not see that the kind and the list belong together.
    if (put.length + gone.length > 0) await send({ kind, put, gone } as unknown as Update);
  });
  const onMessage = async (message: M): Promise<void> => {
    if (message.type !== EventType.SYNCED) return await gathered.add(message);
    await gathered.flush();
    await send({ kind: 'synced', of: kind });
    await found();
  };
  // What still waits must not come after the next beginning.
  try {
    await source.read(service, start, onMessage, signal);
  } finally {
    await gathered.flush();
  }
}

/** Gathers what comes within a moment. */
export class Gathered<T> {
  #waiting: T[] = [];
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> = Promise.resolve();

  constructor(private readonly send: (list: T[]) => Promise<void>) {}

  /** Settles at once, and for a full list when it was sent. */
  add(one: T): Promise<void> | void {
    this.#waiting.push(one);
    if (this.#waiting.length >= MOST_OF_UPDATE) return this.flush();
    this.#timer ??= setTimeout(() => void this.flush().catch(() => undefined), GATHER_MS);
  }

  flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const list = this.#waiting;
    this.#waiting = [];
    if (list.length > 0) this.#sending = this.#sending.then(() => this.send(list));
    return this.#sending;
  }
}
