// What the page knows of the cluster: the updates of the live stream, put together.
import type { Failure, Feed, TrafficPoint, Update, Watched, WatchedKind } from '../../daemon/page/update.js';
import type { Event } from '../../proto/gen/weft/v1/events.js';
import type { Endpoint, Network, Node, Status } from '../../proto/gen/weft/v1/types.js';

const MOST_EVENTS = 500;
const TRAFFIC_MS = 3_600_000;

/** Not live: since when, and why. */
export interface Lost {
  /** Milliseconds since 1970. */
  since: number;
  failure: Failure;
}

const CONNECTION: Failure = {
  code: 'UNAVAILABLE',
  message: 'the page has lost its connection',
  next: 'See that weft ui, or the controller that serves the page, still runs.',
};

/** Objects of one kind. Those that a new beginning does not repeat are gone when it is complete. */
class Objects<T> {
  readonly all = new Map<string, T>();
  isComplete = false;
  #unrepeated = new Set<string>();

  constructor(private readonly keyOf: (object: T) => string) {}

  begin(): void {
    this.#unrepeated = new Set(this.all.keys());
  }

  put(objects: readonly T[], gone: readonly string[]): void {
    for (const object of objects) {
      const key = this.keyOf(object);
      this.all.set(key, object);
      this.#unrepeated.delete(key);
    }
    for (const key of gone) this.all.delete(key);
  }

  synced(): void {
    for (const key of this.#unrepeated) this.all.delete(key);
    this.#unrepeated.clear();
    this.isComplete = true;
  }
}

export class Cluster {
  readonly #objects = {
    node: new Objects<Node>(({ name }) => name),
    network: new Objects<Network>(({ name }) => name),
    endpoint: new Objects<Endpoint>(({ id }) => id),
  } satisfies { [K in WatchedKind]: Objects<Watched[K]> };
  #events: Event[] = [];
  #traffic: TrafficPoint[] = [];
  readonly #lost = new Map<Feed, Lost>();
  #connectionLost: Lost | undefined;
  status: Status | undefined;
  /** Counts what has changed, so that views compute again only then. */
  readonly versions: Record<Feed, number> = {
    ...{ node: 0, network: 0, endpoint: 0, status: 0, event: 0, traffic: 0 },
  };

  get nodes(): ReadonlyMap<string, Node> {
    return this.#objects.node.all;
  }
  get networks(): ReadonlyMap<string, Network> {
    return this.#objects.network.all;
  }
  get endpoints(): ReadonlyMap<string, Endpoint> {
    return this.#objects.endpoint.all;
  }
  /** In order of time. */
  get events(): readonly Event[] {
    return this.#events;
  }
  get traffic(): readonly TrafficPoint[] {
    return this.#traffic;
  }

  isWatched(feed: Feed): feed is WatchedKind {
    return feed in this.#objects;
  }

  isComplete(kind: WatchedKind): boolean {
    return this.#objects[kind].isComplete;
  }

  /** Undefined where it is live. */
  lost(feed: Feed): Lost | undefined {
    return this.#connectionLost ?? this.#lost.get(feed);
  }

  /** @param now milliseconds since 1970 */
  apply(update: Update, now: number): void {
    switch (update.kind) {
      case 'begin':
        this.#objects[update.of].begin();
        return;
      case 'synced':
        this.#objects[update.of].synced();
        this.#lost.delete(update.of);
        this.versions[update.of] += 1;
        return;
      case 'node':
        this.#objects.node.put(update.put, update.gone);
        break;
      case 'network':
        this.#objects.network.put(update.put, update.gone);
        break;
      case 'endpoint':
        this.#objects.endpoint.put(update.put, update.gone);
        break;
      case 'status':
        this.status = update.status;
        break;
      case 'event':
        this.#events = [...this.#events, ...update.put].slice(-MOST_EVENTS);
        break;
      case 'traffic':
        this.#traffic = [...this.#traffic.filter(({ at }) => at > now - TRAFFIC_MS), ...update.put];
        break;
      case 'lost':
        this.#lost.set(update.of, {
          since: this.#lost.get(update.of)?.since ?? now,
          failure: update.failure,
        });
        this.versions[update.of] += 1;
        return;
      case 'found':
        this.#lost.delete(update.of);
        // The newest events follow once more.
        if (update.of === 'event') this.#events = [];
        this.versions[update.of] += 1;
        return;
    }
    this.versions[update.kind] += 1;
  }

  disconnected(now: number): void {
    this.#connectionLost ??= { since: now, failure: CONNECTION };
    this.#everythingChanged();
  }

  /** A new stream: it has the traffic of the whole hour, too. */
  connected(): void {
    this.#connectionLost = undefined;
    this.#lost.clear();
    this.#traffic = [];
    this.#everythingChanged();
  }

  #everythingChanged(): void {
    for (const feed of Object.keys(this.versions) as Feed[]) this.versions[feed] += 1;
  }
}
