// Removes a node with all records that belong to it.
//
// The records of a large node exceed one etcd transaction. The tombstone and the node are therefore written first; its other
// records follow, found in a view that has seen the tombstone.
import { failedPrecondition, notFound } from '../core/errors.js';
import { REMOVAL_TTL } from './networks.js';
import { encodeRemoval } from './record-codec.js';
import type { StoredLease } from './store.js';
import { absent, get, keyAt, MAX_OPERATIONS, put, remove, unchanged, type Context } from './transaction.js';

export async function removeNode(
  context: Context,
  name: string,
  { force }: { force: boolean },
): Promise<void> {
  const { client, keys, replica } = context;
  const first = await client.txn({ success: [get(keys.node(name)), get(keys.alive(name))] });
  const node = keyAt(first.responses, 0);
  const alive = keyAt(first.responses, 1);
  // Agents keep the routes to a node that etcd has lost, and learn of its removal from the tombstone.
  const isLost = replica.wasDeleted(keys.node(name)) && !replica.view.removals.has(`node ${name}`);
  const isKnown = node !== undefined || alive !== undefined || belongings(context, name).length > 0;
  if (!isKnown && !isLost) throw notFound(`node ${name}: there is no such node`);
  const running = (): Error =>
    failedPrecondition(`node ${name} is up`, `Stop its agent first, or use --force.`);
  if (alive !== undefined && !force) throw running();
  const etcdLease = await client.grant(REMOVAL_TTL);
  const tombstone = encodeRemoval({
    kind: 'node',
    name,
    at: context.now().toISOString(),
    forced: alive !== undefined,
  });
  const { succeeded, header } = await client.txn({
    compare: force ? [] : [absent(keys.alive(name)), unchanged(keys.node(name), node?.mod_revision ?? 0)],
    success: [
      put(keys.removal('node', name), tombstone, etcdLease),
      remove(keys.node(name)),
      remove(keys.alive(name)),
    ],
  });
  if (!succeeded) {
    client.revoke(etcdLease);
    throw running();
  }
  if (alive !== undefined) client.revoke(alive.lease);
  await removeBelongings(context, name, Number(header.revision));
}

/** @param revision at which the node itself was removed */
export async function removeBelongings(context: Context, name: string, revision: number): Promise<void> {
  const { client, replica, keys } = context;
  await replica.reached(keys.removal('node', name), revision, 2500);
  // Twice at most: the second look finds what a running node wrote at the same moment.
  for (let round = 0; round < 2; round++) {
    const all = belongings(context, name);
    for (let at = 0; at < all.length; at += MAX_OPERATIONS) {
      const some = all.slice(at, at + MAX_OPERATIONS);
      const { header } = await client.txn({ success: some.map(remove) });
      for (const key of some) await replica.reached(key, Number(header.revision), 2500);
    }
  }
}

/** Keys of all records of this node that the view has. */
function belongings({ replica, keys }: Context, name: string): string[] {
  const { view } = replica;
  const found: string[] = [];
  for (const leases of view.leases.values()) {
    for (const lease of leases.values()) {
      if (isOwn(lease, name)) found.push(replica.keyOfLease(lease));
    }
  }
  for (const endpoints of view.endpoints.values()) {
    for (const endpoint of endpoints.values()) {
      if (endpoint.node !== name) continue;
      found.push(keys.endpoint(endpoint.network, endpoint.id));
      const index = keys.endpointName(endpoint.network, endpoint.name);
      if (replica.text(index) === endpoint.id) found.push(index);
    }
  }
  for (const claims of view.claims.values()) {
    for (const claim of claims.values()) {
      if (claim.node === name) found.push(keys.claim(claim.network, claim.ip.toString()));
    }
  }
  return found;
}

/** Includes its reservation, which would keep addresses that no node answers at. */
const isOwn = (lease: StoredLease, name: string): boolean => lease.node === name;
