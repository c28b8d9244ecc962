// Routes of clouds to nodes that are gone: deleted by the elected leader alone.
//
// A node deletes its own route when it leaves a network. One that is dead cannot: its route stays in the tables of the cloud,
// takes a place of their quota, and leads whoever has the subnet next to nowhere. A route is deleted where no lease has its
// subnet, and no claim its address, in two looks in a row: a record that was lost is back by then, for its node writes it.
import { setTimeout as delay } from 'node:timers/promises';

import { addressBits, IpNetwork } from '../core/address.js';
import { cloudNetworksOf, endedRoutes, type CloudNetwork, type CloudRoute } from '../core/cloud.js';
import { messageOf, nextOf } from '../core/errors.js';
import { RETAIN_LOST_MS } from '../core/lost-records.js';
import type { Problem } from '../core/problem.js';
import type { Clouds } from '../cloud/index.js';
import type { Logger } from '../daemon/log.js';
import type { Change, Store } from '../store/store.js';

const EVERY_MS = 60_000;
/** From a lease's end, or a route that looks ended, to the next look. */
const SOON_MS = 8_000;

export interface CloudRoutesOptions {
  store: Pick<Store, 'view' | 'state' | 'isSynced' | 'subscribe'>;
  clouds: Pick<Clouds, 'get'>;
  log: Pick<Logger, 'info' | 'warn'>;
  onRemoved?: () => void;
  everyMs?: number;
  soonMs?: number;
}

const networkKey = ({ cloud, name, tables }: CloudNetwork): string => JSON.stringify([cloud, name, tables]);
const routeKey = ({ table, to, hop }: CloudRoute): string => JSON.stringify([table, to.toString(), hop]);

export class CloudRoutes {
  /** Networks that were removed, or have another backend now, until nothing of them is left. */
  readonly #ended = new Map<string, CloudNetwork>();
  readonly #warnings = new Map<string, Problem>();
  #suspects = new Set<string>();
  #wake: AbortController | undefined;

  constructor(private readonly options: CloudRoutesOptions) {
    // Every controller remembers them: the next leader may not have led when a network was removed.
    options.store.subscribe((changes) => this.#note(changes));
  }

  /** What keeps this controller from looking, for people; none where it does not lead. */
  warnings(): Problem[] {
    return [...this.#warnings.values()];
  }

  #note(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind === 'network' && change.before !== undefined)
        for (const network of cloudNetworksOf(change.before)) this.#ended.set(networkKey(network), network);
      const isEnd = change.kind === 'lease' || change.kind === 'claim' || change.kind === 'network';
      if (isEnd && change.after === undefined) this.#wake?.abort();
    }
  }

  /** Looks until the signal aborts. */
  async lead(signal: AbortSignal): Promise<void> {
    const { everyMs = EVERY_MS, soonMs = SOON_MS } = this.options;
    this.#suspects = new Set();
    while (!signal.aborted) {
      const wake = new AbortController();
      this.#wake = wake;
      await this.#look(signal);
      const until = AbortSignal.any([signal, wake.signal]);
      const pause = (ms: number, till: AbortSignal): Promise<void> =>
        delay(ms, undefined, { signal: till }).catch(() => undefined);
      if (this.#suspects.size === 0) await pause(everyMs, until);
      if (this.#suspects.size > 0 || wake.signal.aborted) await pause(soonMs, signal);
    }
    this.#wake = undefined;
    this.#warnings.clear();
  }

  async #look(signal: AbortSignal): Promise<void> {
    const { store } = this.options;
    const { connected, restored } = store.state;
    const before = this.#suspects;
    this.#suspects = new Set();
    if (!store.isSynced || !connected) return;
    // What a restore of etcd has lost is kept as long on the nodes.
    if (restored !== undefined && Date.now() < restored.getTime() + RETAIN_LOST_MS) return;
    const networks = this.#networks();
    for (const key of [...this.#warnings.keys()]) if (!networks.has(key)) this.#warnings.delete(key);
    for (const [key, network] of networks) {
      if (signal.aborted) return;
      try {
        await this.#lookAt(network, before);
        this.#warnings.delete(key);
      } catch (error) {
        if (signal.aborted) return;
        this.#warn(key, {
          what: `routes of network ${network.name} to nodes that are gone`,
          why: `this controller, which leads, cannot delete them: ${messageOf(error)}`,
          fix: nextOf(error) ?? 'It is tried again every minute.',
        });
      }
    }
  }

  #warn(key: string, warning: Problem): void {
    const isNew = this.#warnings.get(key)?.why !== warning.why;
    this.#warnings.set(key, warning);
    if (isNew) this.options.log.warn('routes of a cloud stay', { ...warning });
  }

  /** The networks that clouds route now, and those that have ended. */
  #networks(): Map<string, CloudNetwork> {
    const { view } = this.options.store;
    const all = [...view.networks.values()].flatMap(cloudNetworksOf);
    const current = new Map(all.map((network) => [networkKey(network), network]));
    for (const [key, network] of this.#ended) {
      if (current.has(key)) this.#ended.delete(key);
      // Without a tombstone it was lost: its nodes write it back.
      else if (view.networks.has(network.name) || view.removals.has(`network ${network.name}`))
        current.set(key, network);
    }
    return current;
  }

  async #lookAt(network: CloudNetwork, before: ReadonlySet<string>): Promise<void> {
    const { store, clouds, log, onRemoved } = this.options;
    const api = await clouds.get(network.cloud);
    const tables = await api.tables(network, 'all');
    // Read after the table: a node writes its lease first, and then its route.
    const kept = keptIn(store.view);
    const ended = endedRoutes(tables, network, (to) => kept.has(to.toString()));
    if (ended.length === 0) this.#ended.delete(networkKey(network));
    for (const route of ended) {
      const key = routeKey(route);
      if (!before.has(key)) {
        this.#suspects.add(key);
        continue;
      }
      await api.apply({ do: 'delete', route });
      onRemoved?.();
      log.info('deleted a route of the cloud to a node that is gone', {
        network: network.name,
        route: route.to.toString(),
        hop: route.hop,
        table: route.table,
      });
    }
  }
}

/** The subnets and addresses that nodes have, of all networks. */
function keptIn({ leases, claims, bad }: Store['view']): Set<string> {
  const kept = new Set<string>();
  for (const all of leases.values())
    for (const { subnet, subnet6 } of all.values())
      for (const one of [subnet, subnet6]) if (one !== undefined) kept.add(one.toString());
  for (const all of claims.values())
    for (const { ip } of all.values()) kept.add(IpNetwork.of(ip, addressBits(ip.family)).toString());
  // A lease that cannot be read is one.
  for (const key of bad.keys()) {
    const [, base, length] = /\/subnets\/([\d.]+)-(\d+)/.exec(key) ?? [];
    if (base !== undefined) kept.add(`${base}/${length}`);
  }
  return kept;
}
