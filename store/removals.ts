// Repeats removals in an etcd that was restored from an older copy.
//
// A restored etcd may lack tombstones and have the removed records again. Every process that has seen the tombstones writes
// them back, and removes again the records that are, to the revision, the removed ones.
// Always: a record created since then is kept, and a tombstone older than it is deleted.
import { setTimeout as sleep } from 'node:timers/promises';

import { messageOf, WeftError } from '../core/errors.js';
import { REMOVAL_TTL } from './networks.js';
import { removeBelongings } from './nodes.js';
import { encodeRemoval } from './record-codec.js';
import { orAsk } from './network-writer.js';
import type { LostRemoval } from './tombstones.js';
import { absent, get, keyAt, put, remove, removeAll, unchanged, type Context } from './transaction.js';

/** Attempts that etcd answered. A dead node may have a life lease in the copy, which must end first. */
const ATTEMPTS = 30;
const EVERY_MS = 1000;

export async function removeAgain(
  context: Context,
  lost: readonly LostRemoval[],
  signal: AbortSignal,
  everyMs = EVERY_MS,
): Promise<void> {
  let open = [...lost];
  let answered = 0;
  for (;;) {
    const outcomes = await Promise.all(
      open.map(
        async (one) =>
          await settle(context, one).catch((error: unknown) => {
            context.log.debug('a removal could not be written back yet', {
              key: one.key,
              error: messageOf(error),
            });
            return error instanceof WeftError && error.code === 'UNAVAILABLE' ? 'unasked' : 'open';
          }),
      ),
    );
    open = open.filter((_, i) => outcomes[i] !== 'settled');
    if (outcomes.some((outcome) => outcome !== 'unasked')) answered++;
    if (open.length === 0 || answered === ATTEMPTS) return;
    await sleep(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
    if (signal.aborted) return;
  }
}

/** Deletes superseded tombstones. One that cannot be deleted now is found again at the next change. */
export async function forget(
  { client, replica, log }: Context,
  tombstones: readonly string[],
): Promise<void> {
  for (const tombstone of tombstones) {
    const revision = replica.superseded(tombstone);
    if (revision === undefined) continue;
    await client
      .txn({ compare: [unchanged(tombstone, revision)], success: [remove(tombstone)] })
      .catch((error: unknown) =>
        log.debug('an old tombstone could not be deleted yet', { key: tombstone, error: messageOf(error) }),
      );
  }
}

/** `settled`: nothing is left to do. */
async function settle(context: Context, lost: LostRemoval): Promise<'settled' | 'open'> {
  const { writer } = context;
  const { kind, name } = lost.removal;
  const isSettled = await orAsk(
    () => repeatRemoval(context, lost),
    kind === 'network' && writer !== undefined
      ? () => writer.removeAgain(name, encodeRemoval(lost.removal))
      : undefined,
  );
  return isSettled ? 'settled' : 'open';
}

/** Returns whether nothing is left to do. */
export async function repeatRemoval(
  context: Context,
  { removal, key, revision }: LostRemoval,
): Promise<boolean> {
  const { client, keys, log, now } = context;
  const { kind, name } = removal;
  const age = (now().getTime() - Date.parse(removal.at)) / 1000;
  const left = Math.round(REMOVAL_TTL - (age > 0 ? age : 0));
  if (!(left > 0)) return true;
  const tombstone = keys.removal(kind, name);
  const etcdLease = await client.grant(left);
  const mark = put(tombstone, encodeRemoval(removal), etcdLease);
  let isMarked = false;
  let removedAt: string | undefined;
  try {
    const gone = await client.txn({ compare: [absent(tombstone), absent(key)], success: [mark] });
    isMarked = gone.succeeded;
    if (!isMarked && revision !== undefined) {
      const again = await client.txn({
        compare: [
          absent(tombstone),
          unchanged(key, revision),
          ...(kind === 'node' ? [absent(keys.alive(name))] : []),
        ],
        success: [
          ...(kind === 'node' ? [remove(key)] : [removeAll(keys.network(name)), put(keys.allocated(), name)]),
          mark,
        ],
      });
      isMarked = again.succeeded;
      if (isMarked) removedAt = again.header.revision;
    }
  } finally {
    if (!isMarked) client.revoke(etcdLease);
  }
  if (!isMarked) {
    // It was written back by another process, or the record was created anew; a node's life lease may still have to end.
    const { responses } = await client.txn({ success: [get(tombstone), get(key)] });
    const same = keyAt(responses, 1)?.mod_revision === revision;
    return keyAt(responses, 0) !== undefined || !same;
  }
  if (removedAt === undefined) return true;
  log.warn('a removed record came back with an older copy of etcd and was removed again', {
    kind,
    name,
  });
  if (kind === 'node') await removeBelongings(context, name, Number(removedAt));
  return true;
}
