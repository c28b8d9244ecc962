// Garbage collection in etcd: leftovers of removed nodes and networks, by the elected leader alone.
//
// A removal is one transaction that deletes everything of the node or network, so only records that an agent wrote during or
// after it are left. The rule is narrow on purpose: a record is deleted only where a tombstone exists, its node or network is
// absent, and both held twice in a row. A node that is down or a key that was lost is never a reason.
import { setTimeout as delay } from 'node:timers/promises';

import type { Logger } from '../daemon/log.js';
import type { Store } from '../store/store.js';

const EVERY_MS = 15_000;

export interface Leftover {
  /** Identifies it among the leftovers of one look. */
  key: string;
  remove(store: Store): Promise<void>;
}

/** Everything that may be deleted as of now. */
export function findLeftovers({ view }: Store): Leftover[] {
  const removed = (node: string | undefined, network: string): boolean => {
    const nodeGone =
      node !== undefined &&
      view.removals.has(`node ${node}`) &&
      !view.nodes.has(node) &&
      !view.alive.has(node);
    return nodeGone || (view.removals.has(`network ${network}`) && !view.networks.has(network));
  };
  // A network whose config cannot be read still exists.
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
      // Reservations and flanneld's subnets are never deleted.
      if (lease.reservation || lease.node === undefined || !removed(lease.node, network)) continue;
      found.push({
        key: `lease ${network}/${lease.subnet.toString()} ${lease.etcdLease}`,
        remove: (store) => store.releaseLease(lease),
      });
    }
  }
  return found;
}

/** Looks every 15 s until the signal aborts; deletes what was a leftover twice in a row. */
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
