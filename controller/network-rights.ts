// Which networks' records nodes may write, in an etcd with weft's users: those of every network that is there or was.
//
// A network is open before its config is written, so that no node that hears of it is refused. It is closed only at a start:
// nodes that were away delete what they had in a network that was removed.
import { Mutex } from '../core/keyed-mutex.js';
import { messageOf } from '../core/errors.js';
import type { Logger } from '../daemon/log.js';
import type { ControllerStore } from '../store/etcd-store.js';

const RETRY_MS = 1000;

export class NetworkRights {
  #open: Set<string> | undefined;
  readonly #changes = new Mutex();

  constructor(
    private readonly store: ControllerStore,
    private readonly log: Logger,
  ) {
    store.beforeConfig((name) => this.#openOne(name));
    store.subscribe((changes) => {
      for (const change of changes)
        if (change.kind === 'network' && change.after !== undefined) this.#follow(change.name);
    });
    store.onState(({ connected }) => {
      // Etcd may be another one, with other roles.
      if (connected && this.#open !== undefined) this.#settleSoon();
    });
  }

  /** From now on etcd has users. @throws WeftError UNAVAILABLE */
  async settle(): Promise<void> {
    await this.#changes.run(async () => {
      const { users } = this.store;
      const open = new Set(await users.openNetworks());
      const wanted = this.#wanted();
      for (const name of wanted)
        if (!open.has(name)) {
          await users.openNetwork(name);
          open.add(name);
        }
      const isStart = this.#open === undefined;
      for (const name of isStart ? [...open] : [])
        if (!wanted.has(name)) {
          await users.closeNetwork(name);
          open.delete(name);
        }
      this.#open = open;
    });
  }

  #wanted(): Set<string> {
    const { networks, leases, endpoints, claims, removals } = this.store.view;
    const removed = [...removals.values()].flatMap(({ kind, name }) => (kind === 'network' ? name : []));
    return new Set([
      ...[networks, leases, endpoints, claims].flatMap((records) => [...records.keys()]),
      ...removed,
    ]);
  }

  async #openOne(name: string): Promise<void> {
    if (this.#open?.has(name) === true) return;
    // Also after a comparison that is under way, which may not have seen this network.
    await this.#changes.run(async () => {
      if (this.#open === undefined || this.#open.has(name)) return;
      await this.store.users.openNetwork(name);
      this.#open.add(name);
    });
  }

  /** A config that somebody wrote by hand. */
  #follow(name: string): void {
    void this.#openOne(name).catch((error: unknown) => {
      this.log.warn('nodes cannot be let into a network yet', { network: name, error: messageOf(error) });
      setTimeout(() => this.#follow(name), RETRY_MS).unref();
    });
  }

  #settleSoon(): void {
    void this.settle().catch((error: unknown) =>
      this.log.debug('the rights of nodes could not be compared yet', { error: messageOf(error) }),
    );
  }
}
