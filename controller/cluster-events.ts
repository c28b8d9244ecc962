// Events of the cluster: what the nodes tell, and what the controller itself does and sees.
//
// In memory, and bounded: each node keeps its own, and tells them again to a controller that does not have them. Never in etcd.
import { REASONS, eventObject, type EventReason } from '../core/events.js';
import type { Actor, AuditEntry } from '../daemon/audit.js';
import type { EventLog } from '../daemon/event-log.js';
import type { EventSource } from '../daemon/event-service.js';
import type { Event } from '../proto/gen/weft/v1/events.js';
import type { Store } from '../store/store.js';
import type { Registry } from './registry.js';

export interface Bounds {
  /** Events of one node. */
  node: number;
  /** Events of all nodes. */
  all: number;
  /** Characters of one text. */
  text: number;
}

const BOUNDS: Bounds = { node: 1000, all: 20_000, text: 1000 };

interface NodeEvents {
  instance: string;
  /** Sequence number of the newest. */
  last: number;
  events: Event[];
}

/** What people do by a method, and the kind and field of its object. */
const DEEDS: Readonly<
  Record<string, { reason: EventReason; kind: 'network' | 'node' | 'endpoint'; field: string }>
> = {
  'NetworkService/CreateNetwork': { reason: 'created', kind: 'network', field: 'name' },
  'NetworkService/UpdateNetwork': { reason: 'changed', kind: 'network', field: 'name' },
  'NetworkService/DeleteNetwork': { reason: 'removed', kind: 'network', field: 'name' },
  'RecordService/CreateNetwork': { reason: 'created', kind: 'network', field: 'name' },
  'RecordService/RemoveNetwork': { reason: 'removed', kind: 'network', field: 'name' },
  'NodeService/DeleteNode': { reason: 'removed', kind: 'node', field: 'name' },
  'EndpointService/UpdateEndpoint': { reason: 'changed', kind: 'endpoint', field: 'id' },
  'EndpointService/DeleteEndpoint': { reason: 'removed', kind: 'endpoint', field: 'id' },
};

export class ClusterEvents implements EventSource {
  readonly #nodes = new Map<string, NodeEvents>();
  readonly #listeners = new Set<(event: Event) => void>();
  #count = 0;

  /** @param own the controller's own */
  constructor(
    private readonly own: EventLog,
    private readonly bounds = BOUNDS,
  ) {
    own.subscribe((event) => this.#tell(event));
  }

  list(): Event[] {
    const all = [...this.own.list(), ...[...this.#nodes.values()].flatMap(({ events }) => events)];
    return all.toSorted((a, b) => (a.time < b.time ? -1 : a.time > b.time ? 1 : a.sequence - b.sequence));
  }

  subscribe(listener: (event: Event) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Sequence number of the newest event that is known of a node; 0 for another instance, which counts anew. */
  lastOf(node: string, instance: string): number {
    const known = this.#nodes.get(node);
    return known?.instance === instance ? known.last : 0;
  }

  /** What a node tells, which is not trusted. @returns the sequence number of the newest */
  take(node: string, instance: string, told: readonly Event[]): number {
    const known = this.#nodes.get(node) ?? { instance, last: 0, events: [] };
    if (known.instance !== instance) Object.assign(known, { instance, last: 0 });
    this.#nodes.set(node, known);
    for (const event of told) {
      if (event.sequence <= known.last) continue;
      known.last = event.sequence;
      const checked = this.#check(node, event);
      if (checked === undefined) continue;
      known.events.push(checked);
      this.#count += 1;
      this.#tell(checked);
    }
    this.#trim(known, this.bounds.node);
    while (this.#count > this.bounds.all) this.#shortenLongest();
    return known.last;
  }

  /** Follows which nodes there are, and which are up. */
  follow(registry: Registry, store: Pick<Store, 'isSynced' | 'synced'>, signal: AbortSignal): void {
    const up = new Map<string, boolean>();
    const look = (names: Iterable<string>, isNews: boolean): void => {
      const there = new Set(registry.names());
      for (const name of names) {
        const before = up.get(name);
        const now = there.has(name) ? registry.isUp(name) : undefined;
        if (before === now) continue;
        if (now === undefined) up.delete(name);
        else up.set(name, now);
        if (isNews) this.#lived(name, before, now, registry.whyDown(name));
      }
    };
    store.synced(signal).then(
      () => {
        look(registry.names(), false);
        registry.subscribe((names) => look(names, true));
      },
      // The controller ends.
      () => undefined,
    );
  }

  #lived(name: string, before: boolean | undefined, now: boolean | undefined, why: string | undefined): void {
    const object = eventObject('node', name);
    if (now === undefined) this.own.record({ reason: 'left', object, message: 'its record is gone' });
    else if (before === undefined)
      this.own.record({ reason: 'joined', object, message: 'it is a node of the cluster' });
    else if (now) this.own.record({ reason: 'up', object, message: 'its agent is back' });
    else this.own.record({ reason: 'down', object, message: why ?? 'its agent no longer renews its lease' });
  }

  /** What somebody has done by a call. */
  audited({ method, code, object, actor, peer }: AuditEntry): void {
    const deed = DEEDS[method];
    const name = deed && object[deed.field];
    if (deed === undefined || name === undefined || code !== 'OK') return;
    this.own.record({
      reason: deed.reason,
      object: eventObject(deed.kind, name),
      message: `by ${method.replace(/^.*\//, '')}${peer === undefined ? '' : ` from ${peer.replace(/:\d+$/, '')}`}`,
      actor: describeActor(actor),
    });
  }

  #check(node: string, event: Event): Event | undefined {
    const { time, reason, object, message, actor, count, sequence } = event;
    if (!Object.hasOwn(REASONS, reason) || Number.isNaN(Date.parse(time))) return undefined;
    const { text } = this.bounds;
    return {
      time: new Date(time).toISOString(),
      type: REASONS[reason as EventReason],
      node,
      reason,
      object: object.slice(0, text),
      message: message.slice(0, text),
      actor: actor.slice(0, text),
      count,
      sequence,
    };
  }

  #tell(event: Event): void {
    for (const listener of this.#listeners) listener(event);
  }

  #trim({ events }: NodeEvents, most: number): void {
    this.#count -= events.splice(0, Math.max(0, events.length - most)).length;
  }

  /** One node that has many must not push out the others'. A node without any is forgotten. */
  #shortenLongest(): void {
    const [name, longest] = [...this.#nodes].reduce((a, b) =>
      b[1].events.length > a[1].events.length ? b : a,
    );
    this.#trim(longest, Math.floor(longest.events.length * 0.9));
    if (longest.events.length === 0) this.#nodes.delete(name);
  }
}

/** For people: `admin, certificate 5E1F`. */
function describeActor(actor: Actor): string {
  if ('uid' in actor) return `uid ${actor.uid}`;
  const who = actor.node === undefined ? actor.role : `${actor.role} ${actor.node}`;
  return actor.serial === undefined ? who : `${who}, certificate ${actor.serial}`;
}
