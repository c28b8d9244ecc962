// Removing a node with all that is its own. Everything of a large node does not fit one of etcd's transactions, so the
// tombstone and the node itself come first; what belongs to it follows, found in a view that has seen the tombstone.
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
  // Agents keep the routes to a node that etcd has lost, and learn from the tombstone that it was removed.
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
  // Twice at most: what a node that was up wrote at the same moment is found by the second look.
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

/** Deletions of all that the view knows to be this node's. */
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

/** A reservation goes too: it was this node's, and keeps an address that nobody answers at. */
const isOwn = (lease: StoredLease, name: string): boolean => lease.node === name;
