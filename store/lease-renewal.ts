// Renews and releases the subnet lease of a node, as flannel does.
import { failedPrecondition, unavailable } from '../core/errors.js';
import type { Lease } from '../core/records.js';
import { encodeLease } from './lease-codec.js';
import { gone, readKey } from './lease-list.js';
import { ownerOf } from './leases.js';
import type { StoredLease } from './store.js';
import { get, keyAt, present, put, read, remove, unchanged, type Context } from './transaction.js';

/** Whether a lease in etcd is this process's. */
const isSame = (there: Lease | undefined, mine: Lease): boolean =>
  there !== undefined &&
  (there.instance === undefined
    ? there.publicIp.equals(mine.publicIp)
    : there.instance === mine.instance && there.node === mine.node);

export async function renewLease(
  context: Context,
  lease: StoredLease,
  ttlSeconds: number,
): Promise<StoredLease> {
  if (lease.reservation) return lease;
  const { client, keys } = context;
  const key = keys.lease(lease.network, lease.subnet, lease.subnet6);
  const etcdLease = await client.grant(ttlSeconds);
  let renewed: StoredLease | undefined;
  try {
    for (let attempt = 1; attempt <= 5 && renewed === undefined; attempt++) {
      renewed = await tryRenew(context, lease, key, etcdLease);
    }
  } finally {
    if (renewed?.etcdLease !== etcdLease) client.revoke(etcdLease);
  }
  if (renewed === undefined) {
    throw unavailable(
      `network ${lease.network}: the lease of ${lease.subnet.toString()} keeps changing`,
      'Try again.',
    );
  }
  return renewed;
}

async function tryRenew(
  context: Context,
  lease: StoredLease,
  key: string,
  etcdLease: string,
): Promise<StoredLease | undefined> {
  const { client, keys } = context;
  const kv = await read(client, key);
  const there = kv && readKey(context, kv);
  if (there !== undefined && !isSame(there.lease, lease)) {
    throw failedPrecondition(
      `network ${lease.network}: subnet ${lease.subnet.toString()} has been taken by ${ownerOf(there.lease)}`,
      'This node takes another one.',
    );
  }
  // It may have become a reservation in the meantime: the operator wrote it without an etcd lease.
  const under = there?.etcdLease === '0' ? '0' : etcdLease;
  const renewed: StoredLease = { ...lease, etcdLease: under, reservation: under === '0' };
  const { succeeded, responses } = await client.txn({
    compare: [present(keys.config(lease.network)), unchanged(key, there?.modRevision ?? 0)],
    success: [put(key, encodeLease(renewed), under)],
    failure: [get(keys.config(lease.network))],
  });
  if (!succeeded) {
    if (keyAt(responses, 0) === undefined) throw gone(lease.network);
    return undefined;
  }
  if (there !== undefined && there.etcdLease !== under && there.lease?.instance !== undefined)
    client.revoke(there.etcdLease);
  return renewed;
}

export async function releaseLease(context: Context, lease: Lease): Promise<void> {
  const { client, keys } = context;
  const key = keys.lease(lease.network, lease.subnet, lease.subnet6);
  const kv = await read(client, key);
  const there = kv && readKey(context, kv);
  // A reservation is the operator's decision; it stays when this node leaves.
  if (there === undefined || there.etcdLease === '0' || !isSame(there.lease, lease)) return;
  const { succeeded } = await client.txn({
    compare: [unchanged(key, there.modRevision)],
    success: [remove(key)],
  });
  if (succeeded && there.lease?.instance !== undefined) client.revoke(there.etcdLease);
}
