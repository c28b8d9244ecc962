// Leader election: the candidate that creates the absent key leads.
//
// It leads for as long as the etcd lease of the key lives. The lease ends two seconds after the leader dies; with etcd's own
// delay (it checks for expired leases twice a second, and its shortest lease is 2 s) a new leader follows within four.
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf } from '../core/errors.js';
import { HeldLease } from './held-lease.js';
import { absent, put, remove, unchanged, type Context } from './transaction.js';

const TTL = 2;

export async function campaign(
  context: Context,
  name: string,
  id: string,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const { client, replica, keys, log } = context;
  const key = keys.leader(name);
  while (!signal.aborted) {
    try {
      await client.session(signal);
      await replica.until(() => replica.isSynced && replica.modRevision(key) === undefined, signal);
      await term(context, key, id, lead, signal);
    } catch (error) {
      if (signal.aborted) return;
      log.debug('election retried', { election: name, error: messageOf(error) });
    }
    await sleep(50 + Math.random() * 100, undefined, { signal }).catch(() => undefined);
  }
}

/** Runs for election once; returns when another candidate was faster, or the leadership has ended. */
async function term(
  { client, replica, log }: Context,
  key: string,
  id: string,
  lead: (signal: AbortSignal) => Promise<void>,
  signal: AbortSignal,
): Promise<void> {
  const lease = await HeldLease.grant(client, TTL);
  const over = new AbortController();
  try {
    const { succeeded, header } = await client.txn({
      compare: [absent(key)],
      success: [put(key, id, lease.id)],
    });
    if (!succeeded) return;
    const revision = Number(header.revision);
    const leading = AbortSignal.any([signal, lease.lost, over.signal]);
    // Stopped while the transaction ran: `lead` is not called.
    if (leading.aborted) return await resign(client, key, revision);
    // etcd may return without the key (restored, emptied), or the key is deleted by hand.
    const replaced = (): boolean => replica.includes(key, revision) && replica.modRevision(key) !== revision;
    void replica.until(replaced, leading).then(
      () => over.abort(new Error('the leader key was deleted')),
      () => undefined,
    );
    log.info('leading', { election: key, id });
    try {
      await lead(leading);
    } catch (error) {
      if (!leading.aborted) log.error('the leader failed', { election: key, error });
    }
    log.info('not leading any more', { election: key, id });
    await resign(client, key, revision);
  } finally {
    over.abort(new Error('the term is over'));
    lease.release();
  }
}

/** If etcd does not answer, the key ends with its lease. */
async function resign(client: Context['client'], key: string, revision: number): Promise<void> {
  await client.txn({ compare: [unchanged(key, revision)], success: [remove(key)] }).catch(() => undefined);
}
