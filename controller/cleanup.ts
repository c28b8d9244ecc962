// What is left in etcd of nodes and networks that somebody removed is taken away, by one controller among all.
//
// Removing is one transaction that takes everything along, so there is only something to do where a record was written
// while, or after, its node or network was removed: by an agent that had not heard of it. The rule is narrow on purpose:
// a record goes only where a tombstone says that the removal was wanted, its node or network is still not there, and both
// were so for a while; a node that is merely down, or a key that was lost, is never a reason.
import { setTimeout as delay } from 'node:timers/promises';

import type { Logger } from '../daemon/log.js';
import type { Store } from '../store/store.js';

const EVERY_MS = 15_000;

export interface Leftover {
  /** Tells it from others. */
  key: string;
  remove(store: Store): Promise<void>;
}

/** Everything that may go as of now. */
export function findLeftovers({ view }: Store): Leftover[] {
  const removed = (node: string | undefined, network: string): boolean => {
    const nodeGone =
      node !== undefined &&
      view.removals.has(`node ${node}`) &&
      !view.nodes.has(node) &&
      !view.alive.has(node);
    return nodeGone || (view.removals.has(`network ${network}`) && !view.networks.has(network));
  };
  // A config that cannot be read is a network that is there.
  const unreadable = new Set(
    [...view.bad.keys()].map((key) => /\/networks\/([^/]+)\/config$/.exec(key)?.[1]),
  );
  const found: Leftover[] = [];
  for (const [network, endpoints] of view.endpoints) {
    if (unreadable.has(network)) continue;
    for (const { id, node } of endpoints.values()) {
      if (removed(node, network))
        found.push({
          key: `endpoint ${network}/${id}`,
          remove: (store) => store.deleteEndpoint(network, id),
        });
    }
  }
  for (const [network, claims] of view.claims) {
    if (unreadable.has(network)) continue;
    for (const { ip, node, endpoint } of claims.values()) {
      const text = ip.toString();
      if (removed(node, network)) {
        found.push({
          key: `claim ${network}/${text} ${endpoint}`,
          remove: (store) => store.deleteClaim(network, text, endpoint),
        });
      }
    }
  }
  for (const [network, leases] of view.leases) {
    if (unreadable.has(network)) continue;
    for (const lease of leases.values()) {
      // Reservations and flanneld's subnets are not weft's to take.
      if (lease.reservation || lease.node === undefined || !removed(lease.node, network)) continue;
      found.push({
        key: `lease ${network}/${lease.subnet.toString()} ${lease.etcdLease}`,
        remove: (store) => store.releaseLease(lease),
      });
    }
  }
  return found;
}

/** Looks every 15 s until the signal ends it; what was a leftover twice in a row goes. */
export async function cleanUp(options: {
  store: Store;
  log: Logger;
  signal: AbortSignal;
  everyMs?: number;
  onRemoved?: (count: number) => void;
}): Promise<void> {
  const { store, log, signal, everyMs = EVERY_MS, onRemoved } = options;
  let suspects = new Set<string>();
  for (;;) {
    await delay(everyMs, undefined, { signal }).catch(() => undefined);
    if (signal.aborted) return;
    if (!store.isSynced || !store.state.connected) {
      suspects = new Set();
      continue;
    }
    const found = findLeftovers(store);
    const sure = found.filter(({ key }) => suspects.has(key));
    suspects = new Set(found.map(({ key }) => key));
    for (const leftover of sure) {
      if (signal.aborted) return;
      try {
        await leftover.remove(store);
        onRemoved?.(1);
        log.info('took away what was left of something that was removed', { record: leftover.key });
      } catch (error) {
        log.warn('a leftover could not be taken away; it is tried again', { record: leftover.key, error });
      }
    }
  }
}
