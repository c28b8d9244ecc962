// What the agent does as the store tells it: the first full list, every batch of changes, and being connected again, one after
// the other, in etcd's order.
import { messageOf } from '../core/errors.js';
import type { Logger } from '../daemon/log.js';
import type { Announcement, Change, Store } from '../store/store.js';
import type { Gateways } from './gateways.js';
import type { Memberships } from './memberships.js';
import type { AgentMetrics } from './metrics.js';
import type { PluginAddresses } from './plugin-endpoints.js';
import type { Ports } from './ports.js';
import type { Problems } from './problems.js';
import type { Publisher } from './publisher.js';

export interface StoreFollowerOptions {
  store: Store;
  memberships: Memberships;
  gateways: Gateways;
  ports: Ports;
  publisher: Publisher;
  pluginAddresses: PluginAddresses;
  announcement: Announcement;
  metrics: AgentMetrics;
  problems: Problems;
  log: Logger;
  node: string;
  instance: string;
  signal: AbortSignal;
  /** The state of the store changed. */
  changed: () => void;
}

export class StoreFollower {
  readonly #unsubscribe: (() => void)[];
  #work: Promise<void>;

  /** @param first what is done when the first full list is here */
  constructor(
    private readonly options: StoreFollowerOptions,
    first: () => Promise<void>,
  ) {
    const { store, signal } = options;
    this.#work = store.synced(signal).then(first);
    this.next('the first list', () => Promise.resolve());
    this.#unsubscribe = [
      store.subscribe((changes) => {
        options.memberships.note(changes);
        if (store.isSynced) this.next('a change', () => this.#handle(changes));
      }),
      this.#followState(),
    ];
  }

  stop(): void {
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  /** Does something in its turn. @param what for the log */
  next(what: string, step: () => Promise<void>): void {
    const { signal, log } = this.options;
    this.#work = this.#work.then(step).catch((error: unknown) => {
      if (signal.aborted) return;
      log.error('could not follow the store', { what, error: messageOf(error) });
    });
  }

  async #handle(changes: readonly Change[]): Promise<void> {
    const { memberships, gateways, ports, publisher, pluginAddresses, node, instance } = this.options;
    await memberships.handle(changes);
    await gateways.handle(changes);
    await ports.handle(changes);
    publisher.handle(changes);
    pluginAddresses.handle(changes);
    this.options.metrics.leases.set(memberships.list().length);
    if (
      changes.some((change) => change.kind === 'node' && change.name === node && change.after === undefined)
    ) {
      this.options.announcement.refresh();
    }
    if (
      changes.some((change) => change.kind === 'alive' && change.name === node && change.after === instance)
    ) {
      this.options.problems.clear('name');
    }
  }

  #followState(): () => void {
    const { store, metrics, memberships, publisher, changed } = this.options;
    let { connected } = store.state;
    return store.onState((now) => {
      metrics.storeConnected.set(now.connected ? 1 : 0);
      metrics.storeResyncs.set(now.resyncs);
      if (now.connected && !connected && store.isSynced) {
        publisher.kick();
        this.next('being connected again', async () => {
          await memberships.reconnected();
          publisher.resync();
        });
      }
      connected = now.connected;
      changed();
    });
  }
}
