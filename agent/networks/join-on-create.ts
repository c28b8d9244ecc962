// Join on create: `--join` may name networks that do not exist yet.
//
// flanneld waits for its config in the same way.
import { setTimeout as pause } from 'node:timers/promises';

import { messageOf, nextOf } from '../../core/errors.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import type { Memberships } from './memberships.js';
import { NODE, type Problems } from '../health/index.js';

export interface JoinOptions {
  memberships: Memberships;
  store: Store;
  problems: Problems;
  log: Logger;
  signal: AbortSignal;
  /** Called when the first attempt is over. */
  tried?: () => void;
}

/** Tries every second until the node is on the network, or the signal comes. */
export async function joinWhenThere(
  name: string,
  { memberships, store, problems, log, signal, tried }: JoinOptions,
): Promise<void> {
  const key = { scope: NODE, kind: 'awaited-network', id: name } as const;
  for (let told = false; !signal.aborted; told = true) {
    try {
      await store.synced(signal);
      await memberships.join(name, { withoutBridge: true });
      problems.clear(key);
      return;
    } catch (error) {
      if (signal.aborted) return;
      if (!told) log.warn('waiting to join a network', { network: name, error: messageOf(error) });
      problems.set(key, {
        what: `network ${name}, which this node is to join at start`,
        why: messageOf(error),
        fix: nextOf(error) ?? 'It is tried again every second.',
      });
    } finally {
      tried?.();
    }
    await pause(1000, undefined, { signal }).catch(() => undefined);
  }
}
