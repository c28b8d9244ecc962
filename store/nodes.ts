// Removes a node with all records that belong to it.
//
// The records of a large node exceed one etcd transaction. The tombstone and the node are therefore written first; its other
// records follow, found in a view that has seen the tombstone.
import type { IRequestOp } from 'etcd3';

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
  const { client, replica } = context;
  await replica.reached(revision, 2500);
  // Twice at most: the second look finds what a running node wrote at the same moment.
  for (let round = 0; round < 2; round++) {
    const operations = belongings(context, name);
    if (operations.length === 0) return;
    let written = 0;
    for (let at = 0; at < operations.length; at += MAX_OPERATIONS) {
      const answer = await client.txn({ success: operations.slice(at, at + MAX_OPERATIONS) });
      written = Number(answer.header.revision);
    }
    await replica.reached(written, 2500);
  }
}

/** Deletions of all records of this node that the view has. */
function belongings({ replica, keys }: Context, name: string): IRequestOp[] {
  const { view } = replica;
  const operations: IRequestOp[] = [];
  for (const leases of view.leases.values()) {
    for (const lease of leases.values()) {
      if (isOwn(lease, name)) operations.push(remove(replica.keyOfLease(lease)));
    }
  }
  for (const endpoints of view.endpoints.values()) {
    for (const endpoint of endpoints.values()) {
      if (endpoint.node !== name) continue;
      operations.push(remove(keys.endpoint(endpoint.network, endpoint.id)));
      const index = keys.endpointName(endpoint.network, endpoint.name);
      if (replica.plain(index)?.value === endpoint.id) operations.push(remove(index));
    }
  }
  for (const claims of view.claims.values()) {
    for (const claim of claims.values()) {
      if (claim.node === name) operations.push(remove(keys.claim(claim.network, claim.ip.toString())));
    }
  }
  return operations;
}

/** Includes its reservation, which would keep addresses that no node answers at. */
const isOwn = (lease: StoredLease, name: string): boolean => lease.node === name;
