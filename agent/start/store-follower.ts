// Handles the store's events one after the other, in etcd's order.
//
// Events are the first full list, each batch of changes, and a new connection.
import { setImmediate as turn } from 'node:timers/promises';

import { messageOf, nextOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { Announcement, Change, Store } from '../../store/store.js';
import type { Gateways, Memberships } from '../networks/index.js';
import { type AgentMetrics, FIRST_LIST, NAME_CONFLICT, type Problems } from '../health/index.js';
import type { Policies } from '../policy/index.js';
import type { PluginAddresses } from '../plugin-host/index.js';
import type { PublishedPorts, Publisher } from '../endpoints/index.js';

export interface StoreFollowerOptions {
  store: Pick<Store, 'synced' | 'isSynced' | 'subscribe' | 'state' | 'onState' | 'view'>;
  memberships: Pick<Memberships, 'handle' | 'note' | 'reconnected'>;
  gateways: Pick<Gateways, 'handle'>;
  policies: Pick<Policies, 'handle'>;
  ports: Pick<PublishedPorts, 'handle'>;
  publisher: Pick<Publisher, 'handle' | 'kick' | 'resync'>;
  pluginAddresses: Pick<PluginAddresses, 'handle'>;
  announcement: Pick<Announcement, 'refresh'>;
  metrics: Pick<AgentMetrics, 'storeConnected' | 'storeResyncs'>;
  problems: Problems;
  log: Logger;
  node: string;
  instance: string;
  signal: AbortSignal;
  /** Handles a change of the store's connection state. */
  changed: () => void;
  retryMs?: number;
}

const RETRY_MS = 5000;

/**
 * What the memberships are told of the first list, which they take as a whole: one by one, its leases would be compared with
 * each other again. Removals undo what they have restored, and a network that is still being joined has claims to answer.
 */
const isNews = ({ kind }: Change): boolean => kind === 'removal' || kind === 'claim';

export class StoreFollower {
  readonly #unsubscribe: (() => void)[];
  #work: Promise<void>;
  #retry: NodeJS.Timeout | undefined;
  /** Changes whose turn has not come. */
  #waiting: { changes: Change[]; news: Change[] } | undefined;

  /** @param first runs when the first full list has arrived; a failure is retried */
  constructor(
    private readonly options: StoreFollowerOptions,
    private readonly first: () => Promise<void>,
  ) {
    const { store, signal } = options;
    let isListed = store.isSynced;
    this.#work = store.synced(signal).then(() => void (isListed = true));
    this.next('the first list', () => this.#begin());
    this.#unsubscribe = [
      store.subscribe((changes) => {
        options.memberships.note(changes);
        if (!store.isSynced) return;
        this.#take(changes, isListed ? changes : changes.filter(isNews));
      }),
      this.#followState(),
    ];
  }

  stop(): void {
    clearTimeout(this.#retry);
    for (const unsubscribe of this.#unsubscribe) unsubscribe();
  }

  /** Queues work. @param what for the log */
  next(what: string, step: () => Promise<void>): void {
    const { signal, log } = this.options;
    this.#work = this.#work.then(step).catch((error: unknown) => {
      if (signal.aborted) return;
      log.error('could not follow the store', { what, error: messageOf(error) });
    });
  }

  /** Changes that follow do not wait for it. */
  async #begin(): Promise<void> {
    const { problems, signal, retryMs = RETRY_MS } = this.options;
    try {
      await this.first();
      problems.clear(FIRST_LIST);
    } catch (error) {
      if (signal.aborted) return;
      problems.set(FIRST_LIST, {
        what: 'the records of this node in etcd',
        why: `they could not be restored: ${messageOf(error)}`,
        fix: nextOf(error) ?? 'It is tried again every 5 seconds.',
      });
      this.#retry = setTimeout(() => this.next('the first list', () => this.#begin()), retryMs);
      throw error;
    }
  }

  /**
   * What arrives while others are handled waits for them together: where many nodes join at once, the kernel is asked once for
   * dozens of them. @param news what the memberships do not know yet
   */
  #take(changes: readonly Change[], news: readonly Change[]): void {
    if (this.#waiting === undefined) {
      const waiting = (this.#waiting = { changes: [] as Change[], news: [] as Change[] });
      this.next('changes', async () => {
        // What else has been received by now.
        await turn();
        this.#waiting = undefined;
        await this.#handle(waiting.changes, waiting.news);
      });
    }
    for (const change of changes) this.#waiting.changes.push(change);
    for (const change of news) this.#waiting.news.push(change);
  }

  async #handle(changes: readonly Change[], news: readonly Change[]): Promise<void> {
    const { memberships, gateways, ports, publisher, pluginAddresses, problems, node, instance } =
      this.options;
    await memberships.handle(news);
    await this.options.policies.handle(changes);
    await gateways.handle(changes);
    await ports.handle(changes);
    publisher.handle(changes);
    pluginAddresses.handle(changes);
    if (
      changes.some((change) => change.kind === 'node' && change.name === node && change.after === undefined)
    ) {
      this.options.announcement.refresh();
    }
    if (
      changes.some((change) => change.kind === 'alive' && change.name === node && change.after === instance)
    ) {
      if (problems.get(NAME_CONFLICT) !== undefined) {
        problems.clear(NAME_CONFLICT);
        await memberships.reconnected();
      }
      publisher.resync();
    }
  }

  #followState(): () => void {
    const { store, metrics, memberships, publisher, changed } = this.options;
    const measure = ({ connected: isUp, resyncs }: Store['state']): void => {
      metrics.storeConnected.set(isUp ? 1 : 0);
      metrics.storeResyncs.set(resyncs);
    };
    // The connection may have come up before it is followed.
    measure(store.state);
    let { connected } = store.state;
    // What the first list is handled for is done then; its own connection comes up a little later.
    let wasLost = false;
    return store.onState((now) => {
      measure(now);
      if (now.connected && !connected && store.isSynced) {
        publisher.kick();
        if (wasLost)
          this.next('the new connection', async () => {
            await memberships.reconnected();
            publisher.resync();
          });
      }
      wasLost = !now.connected && store.isSynced;
      connected = now.connected;
      changed();
    });
  }
}
