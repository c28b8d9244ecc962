// Node registry: records and life leases from etcd, reports from sessions.
//
// A node is up while its life lease is in etcd. After an outage of etcd no node counts as down before the agents have had
// time to renew their leases. A stalled etcd that still takes itself for the leader ends all leases (etcd's issue 15247, in
// releases before 2024): agents then write new ones, and the registry always waits for longer than that takes.
import type { NodeRecord } from '../core/records.js';
import { unknownName } from '../daemon/unknown.js';
import type { Node, Status } from '../proto/gen/weft/v1/types.js';
import type { Change, Store, StoreState } from '../store/store.js';
import { timestamp, type Clock } from './clock.js';
import type { Counters } from './counters.js';

export interface NodeReport {
  /** Milliseconds since 1970. */
  at: number;
  status: Status;
}

/** The agent said that it ends; its connection ended by itself; it was given up as nothing came. */
export type SessionEnding = 'stopped' | 'closed' | 'silent';

/** What the sessions know about the nodes. */
export interface ReportSource {
  reportOf(node: string): NodeReport | undefined;
  /** How its last session ended; undefined while it has one, and where none is known. */
  endingOf(node: string): SessionEnding | undefined;
}

const WHY_DOWN = {
  stopped: 'its agent was stopped',
  closed: 'its agent ended without saying so: it crashed or was killed, or its host restarted',
  silent: 'its agent does not answer: it hangs, or its host is off or cut off',
} as const satisfies Record<SessionEnding, string>;

/** Longer than the usual --node-ttl of 3 s, by one round of renewals. */
const GRACE_MS = 5000;

/** A living node renews its lease at once. With the 3 s of the lease, a dead node is down within 4 s. */
const BLINK_MS = 500;

interface Life {
  up: boolean;
  /** Since when; 0: since before this controller started. */
  since: number;
  /** When it was last known to be alive; 0: never. */
  seen: number;
  /** Set while the end of its lease is not believed yet. */
  cancelDoubt?: () => void;
}

export class Registry {
  readonly #store: Store;
  readonly #counters: Counters;
  readonly #reports: ReportSource;
  readonly #clock: Clock;
  readonly #lives = new Map<string, Life>();
  readonly #listeners = new Set<(names: readonly string[]) => void>();
  readonly #unsubscribe: (() => void)[];
  #connected: boolean;
  /** Until then (monotonic clock) the end of a life lease does not mean that the node is down. */
  #doubtUntil = 0;

  constructor(options: { store: Store; counters: Counters; reports: ReportSource; clock: Clock }) {
    this.#store = options.store;
    this.#counters = options.counters;
    this.#reports = options.reports;
    this.#clock = options.clock;
    this.#connected = this.#store.state.connected;
    const now = this.#clock.now();
    for (const name of this.#store.view.nodes.keys()) this.#lives.set(name, { up: false, since: 0, seen: 0 });
    for (const name of this.#store.view.alive.keys())
      this.#lives.set(name, { up: true, since: 0, seen: now });
    this.#unsubscribe = [
      this.#store.subscribe((changes) => this.#onChanges(changes)),
      this.#store.onState((state) => this.#onState(state)),
    ];
  }

  /** Sorted names. */
  names(): string[] {
    return [...this.#store.view.nodes.keys()].toSorted();
  }

  isUp(name: string): boolean {
    return this.#lives.get(name)?.up === true;
  }

  count(): { up: number; down: number } {
    let up = 0;
    for (const name of this.#store.view.nodes.keys()) if (this.isUp(name)) up += 1;
    return { up, down: this.#store.view.nodes.size - up };
  }

  /** Since when it is down; undefined where it is up, or was down before this controller started. */
  downSince(name: string): string | undefined {
    const life = this.#lives.get(name);
    return life === undefined || life.up || life.since === 0 ? undefined : timestamp(life.since);
  }

  /** Why it is down, as far as that is known; undefined where it is up. */
  whyDown(name: string): string | undefined {
    const life = this.#lives.get(name);
    if (life === undefined || life.up) return undefined;
    const report = this.#reports.reportOf(name);
    const ending = this.#reports.endingOf(name);
    if (ending !== undefined) return WHY_DOWN[ending];
    if (report === undefined) return undefined;
    return life.since > 0 && report.at > life.since
      ? 'its agent works, and does not reach etcd'
      : WHY_DOWN.silent;
  }

  find(name: string): Node | undefined {
    const record = this.#store.view.nodes.get(name);
    return record === undefined ? undefined : this.#describe(record);
  }

  /** @throws WeftError NOT_FOUND */
  get(name: string): Node {
    const node = this.find(name);
    if (node === undefined) throw this.unknown(name);
    return node;
  }

  unknown(name: string): Error {
    return unknownName('node', name, this.#store.view.nodes.keys());
  }

  /** Calls back with nodes that may have changed. */
  subscribe(listener: (names: readonly string[]) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** A session has reported something new about the node. */
  reported(name: string): void {
    this.#tell([name]);
  }

  close(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
    for (const life of this.#lives.values()) life.cancelDoubt?.();
  }

  #describe(record: NodeRecord): Node {
    const { name } = record;
    const life = this.#lives.get(name) ?? { up: false, since: 0, seen: 0 };
    const report = this.#reports.reportOf(name);
    const seen = life.up ? this.#clock.now() : Math.max(life.seen, report?.at ?? 0);
    const why = this.whyDown(name);
    const reported = report?.status.networks.map((network) => network.name) ?? [];
    const networks = new Set([
      ...this.#counters.networksOf(name),
      ...reported.filter((it) => this.#store.view.networks.has(it)),
    ]);
    return {
      name,
      publicIp: record.publicIp,
      publicIp6: record.publicIp6,
      state: life.up ? 'up' : 'down',
      lastSeen: seen === 0 ? undefined : timestamp(seen),
      since: life.since > 0 ? timestamp(life.since) : life.up ? record.startedAt : undefined,
      version: record.version,
      networks: [...networks].toSorted(),
      endpoints: this.#counters.endpointsOf(name),
      problems: report?.status.problems ?? [],
      ...(why === undefined ? {} : { why }),
    };
  }

  #onState(state: StoreState): void {
    if (state.connected === this.#connected) return;
    this.#connected = state.connected;
    if (state.connected) this.#doubtUntil = this.#clock.elapsed() + GRACE_MS;
  }

  #onChanges(changes: readonly Change[]): void {
    const touched = new Set<string>();
    for (const change of changes) {
      if (change.kind === 'alive') {
        if (change.after === undefined) this.#maybeDown(change.name);
        else this.#setUp(change.name);
        touched.add(change.name);
      } else if (change.kind === 'node') {
        if (change.after === undefined) this.#forget(change.name);
        else this.#lifeOf(change.name);
        touched.add(change.name);
      } else if (change.kind === 'lease' || change.kind === 'endpoint') {
        for (const node of [change.before?.node, change.after?.node])
          if (node !== undefined) touched.add(node);
      }
    }
    if (touched.size > 0) this.#tell([...touched]);
  }

  #lifeOf(name: string): Life {
    const known = this.#lives.get(name);
    if (known !== undefined) return known;
    const life: Life = { up: this.#store.view.alive.has(name), since: 0, seen: 0 };
    this.#lives.set(name, life);
    return life;
  }

  #setUp(name: string): void {
    const known = this.#lives.get(name);
    known?.cancelDoubt?.();
    const now = this.#clock.now();
    // A node that is new here counts from the start of its agent.
    const since = known === undefined ? 0 : known.up ? known.since : now;
    this.#lives.set(name, { up: true, since, seen: now });
  }

  #maybeDown(name: string): void {
    const life = this.#lifeOf(name);
    if (!life.up || life.cancelDoubt !== undefined) return;
    const wait = this.#connected ? Math.max(this.#doubtUntil - this.#clock.elapsed(), BLINK_MS) : GRACE_MS;
    life.seen = this.#clock.now();
    life.cancelDoubt = this.#clock.after(wait, () => {
      delete life.cancelDoubt;
      if (this.#store.view.alive.has(name)) return;
      // The connection was lost again: the wait begins anew when it is back.
      if (!this.#connected || this.#clock.elapsed() < this.#doubtUntil) return this.#maybeDown(name);
      this.#setDown(life);
      this.#tell([name]);
    });
  }

  #setDown(life: Life): void {
    life.up = false;
    life.since = life.seen;
  }

  #forget(name: string): void {
    this.#lives.get(name)?.cancelDoubt?.();
    if (this.#store.view.alive.has(name)) return;
    this.#lives.delete(name);
  }

  #tell(names: readonly string[]): void {
    for (const listener of this.#listeners) listener(names);
  }
}
