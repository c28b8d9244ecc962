// Acquires subnet leases as flannel does.
//
// Always: a lost race is tried again, a reservation stays one, and no two nodes get one subnet. lease-renewal.ts keeps them.
import { setTimeout as sleep } from 'node:timers/promises';

import { withoutFamily } from '../core/backends/index.js';
import { backendTypeOf } from '../core/drivers/index.js';
import { failedPrecondition, resourceExhausted, unavailable, WeftError } from '../core/errors.js';
import { prefixesOf } from '../core/network.js';
import type { Lease } from '../core/records.js';
import { rangeOf } from './keys.js';
import { encodeLease } from './lease-codec.js';
import { leasesIn, listing, listLeases } from './lease-list.js';
import {
  chooseOwn,
  chooseSubnets,
  fits,
  holderToYield,
  ownLeases,
  subnetsOverlap,
  type LeaseKey,
  type OwnChoice,
  type Subnets,
  type Yielding,
} from './lease-choice.js';
import type { LeaseRequest, StoredLease } from './store.js';
import { absent, present, put, rangeAt, read, remove, unchanged, type Context } from './transaction.js';

/** Milliseconds of lost races before an error is reported; fifty nodes at once need a few races of a few ms each. */
const PATIENCE = 10_000;

/**
 * How long another node of the same address may count as alive before that is an error, in milliseconds: it may be this machine
 * before it was installed anew. More than the usual --node-ttl of 3 s.
 */
const FORMER_LIFE = 5000;
const FORMER_LIFE_LOOK = 200;

/** Milliseconds until nodes may write in a network whose config was written by hand: a controller lets them in when it sees it. */
const ADMITTED_WITHIN = 2000;
const ADMITTED_LOOK = 50;

const isDenied = (error: unknown): boolean =>
  error instanceof WeftError && error.code === 'PERMISSION_DENIED';

export async function acquireLease(
  context: Context,
  request: LeaseRequest,
  signal?: AbortSignal,
): Promise<StoredLease> {
  const { client } = context;
  const began = performance.now();
  const giveUp = began + PATIENCE;
  // At once: etcd answers a grant only when it is on its disk.
  const listed = listLeases(context, request.network.name);
  listed.catch(() => undefined);
  const etcdLease = await client.grant(request.ttlSeconds);
  let taken: StoredLease | undefined;
  try {
    let there = await listed;
    while (performance.now() < giveUp) {
      signal?.throwIfAborted();
      if (await isFormerLife(context, request, there, performance.now() - began)) {
        await sleep(FORMER_LIFE_LOOK, undefined, { signal });
        there = await listLeases(context, request.network.name);
        continue;
      }
      const outcome = await takeOne(context, request, there, etcdLease).catch(async (error: unknown) => {
        if (!isDenied(error) || performance.now() - began > ADMITTED_WITHIN) throw error;
        await sleep(ADMITTED_LOOK, undefined, { signal });
        return lost(context, request);
      });
      if ('taken' in outcome) return (taken = outcome.taken);
      there = outcome.there;
    }
  } finally {
    if (taken?.etcdLease !== etcdLease) client.revoke(etcdLease);
  }
  throw unavailable(
    `network ${request.network.name}: other nodes took every subnet that node ${request.node} tried`,
    'It is tried again; nothing needs to be done.',
  );
}

/** The lease that was taken; or the leases as they are now, where they have changed since they were listed. */
type Outcome = { taken: StoredLease } | { there: LeaseKey[] };

const lost = async (context: Context, { network }: LeaseRequest): Promise<Outcome> => ({
  there: await listLeases(context, network.name),
});

/**
 * Takes a subnet that the leases of a network leave to this node. They may have changed since they were listed, by a race or by
 * a deletion here. No decision is made by an old list, since the node would take a second subnet beside its own.
 */
async function takeOne(
  context: Context,
  request: LeaseRequest,
  there: readonly LeaseKey[],
  etcdLease: string,
): Promise<Outcome> {
  const own = ownLeases(request, there);
  for (const { key, lease } of own) {
    await checkOwner(context, request, lease);
    if (lease.reservation && !fits(request.network, key)) {
      context.log.warn('a reserved subnet does not fit its network and is not used', {
        network: lease.network,
        key: key.key,
      });
    }
  }
  const choice = chooseOwn(request, there, own);
  if (choice.usable !== undefined || choice.stale.length > 0)
    return takeOwn(context, request, there, choice, etcdLease);
  const held = holderToYield(request, there);
  return held === undefined
    ? takeNew(context, request, there, etcdLease)
    : reclaim(context, request, held, etcdLease);
}

/**
 * Keeps a lease that is this node's already. One that no longer fits the network is deleted, as flannel does; a reservation,
 * which was written by hand, is left.
 */
async function takeOwn(
  context: Context,
  request: LeaseRequest,
  there: readonly LeaseKey[],
  { usable, stale }: OwnChoice,
  etcdLease: string,
): Promise<Outcome> {
  const { client, keys } = context;
  checkWanted(request, usable?.lease);
  const under = usable?.lease.reservation === true ? '0' : etcdLease;
  const since = usable?.lease.instance === request.instance ? usable.lease.since : undefined;
  const taken = usable && leaseOf(request, usable.key, under, since ?? startOf(context, request, usable.key));
  const right = usable && keys.lease(request.network.name, usable.key.subnet, usable.key.subnet6);
  const target = there.some(({ key }) => key === right) ? usable?.key.key : right;
  const moved = target !== undefined && target !== usable?.key.key;
  const { succeeded } = await client.txn({
    compare: [
      present(keys.config(request.network.name)),
      ...stale.map(({ key }) => unchanged(key.key, key.modRevision)),
      ...(usable ? [unchanged(usable.key.key, usable.key.modRevision)] : []),
      ...(moved ? [absent(target)] : []),
    ],
    success: [
      ...stale.map(({ key }) => remove(key.key)),
      // A key whose IPv6 half is spelt with "-" is rewritten in the form that flanneld reads.
      ...(moved && usable ? [remove(usable.key.key)] : []),
      ...(target !== undefined && taken ? [put(target, encodeLease(taken), under)] : []),
    ],
  });
  if (!succeeded) return lost(context, request);
  for (const { key, lease } of [...stale, ...(usable ? [usable] : [])]) {
    // Only weft has an etcd lease for each key alone; revoking another program's could delete more.
    if (lease.instance !== undefined) client.revoke(key.etcdLease);
  }
  return taken === undefined ? lost(context, request) : { taken };
}

/** Whether a subnet of this node's address is a living other node's, which may end its life soon. @param waited milliseconds */
async function isFormerLife(
  context: Context,
  request: LeaseRequest,
  there: readonly LeaseKey[],
  waited: number,
): Promise<boolean> {
  if (waited > FORMER_LIFE) return false;
  for (const { lease } of ownLeases(request, there)) {
    if (lease.node === undefined || lease.node === request.node || lease.instance === request.instance)
      continue;
    if (await holdsLife(context, lease)) return true;
  }
  return false;
}

const holdsLife = async ({ client, keys }: Context, { node = '', instance }: Lease): Promise<boolean> =>
  instance !== undefined && (await read(client, keys.alive(node)))?.value.toString() === instance;

/** The node's subnet is never exchanged for a requested one. @throws WeftError FAILED_PRECONDITION */
function checkWanted({ network, node, wanted }: LeaseRequest, there: StoredLease | undefined): void {
  if (wanted === undefined || there === undefined) return;
  const pairs = [[wanted.subnet, there.subnet] as const, [wanted.subnet6, there.subnet6] as const];
  for (const [asked, has] of pairs) {
    if (asked === undefined || (has !== undefined && has.equals(asked))) continue;
    throw failedPrecondition(
      `network ${network.name}: ${asked.toString()} was asked for, and node ${node} has ${has?.toString() ?? 'none'}`,
      'Ask for the subnet that it has, or for none.',
    );
  }
}

/** @throws WeftError FAILED_PRECONDITION if a living weft node has this node's address, name or instance id */
async function checkOwner(context: Context, request: LeaseRequest, lease: StoredLease): Promise<void> {
  if (lease.node === undefined || lease.instance === undefined) return;
  const isCopy = lease.instance === request.instance;
  if (isCopy && lease.node === request.node) return;
  if (!(await holdsLife(context, lease))) return;
  const subnet = lease.subnet.toString();
  if (isCopy) {
    throw failedPrecondition(
      `network ${lease.network}: nodes ${lease.node} and ${request.node} have the same instance id, as after a machine was copied; ${lease.node} has subnet ${subnet} under it`,
      `Stop the agent of the copy, delete the file \`instance\` in its state directory, and start it again.`,
    );
  }
  if (lease.node === request.node) {
    throw failedPrecondition(
      `network ${lease.network}: subnet ${subnet} belongs to another node that is named ${lease.node} too, at ${lease.publicIp.toString()}; this one is at ${request.publicIp.toString()}`,
      'Give one of them another name (--node), or stop it.',
    );
  }
  throw failedPrecondition(
    `network ${lease.network}: nodes ${lease.node} and ${request.node} have the same underlay address ${request.publicIp.toString()}; ${lease.node} has subnet ${subnet} under it`,
    'Give each node its own address (--underlay-ip).',
  );
}

/** Takes a free subnet, unless another node is faster. */
async function takeNew(
  context: Context,
  request: LeaseRequest,
  there: readonly LeaseKey[],
  etcdLease: string,
): Promise<Outcome> {
  const { client, keys } = context;
  const { network } = request;
  const chosen = chooseSubnets(request, there);
  if (chosen === undefined) throw exhausted(request, there);
  const lease = leaseOf(request, chosen, etcdLease, startOf(context, request, chosen));
  const key = keys.lease(network.name, chosen.subnet, chosen.subnet6);
  const { succeeded, responses } = await client.txn({
    compare: [present(keys.config(network.name)), absent(key)],
    success: [
      put(key, encodeLease(lease), etcdLease),
      { request_range: { ...rangeOf(keys.subnets(network.name)), keys_only: true } },
    ],
    // Where many nodes start at once, most lose a race or two: the next try costs no other question.
    failure: listing(context, network.name),
  });
  if (!succeeded) return { there: leasesIn(context, network.name, responses) };
  // The comparison guards this very key. Another key can overlap it: one of another length, or one with the same IPv6
  // half. Transactions are serialized, so of two that overlap the later one sees the earlier.
  const overlaps = rangeAt(responses, 1).some((kv) => {
    const other = keys.parse(kv.key.toString());
    return other.kind === 'lease' && kv.key.toString() !== key && subnetsOverlap(other, chosen);
  });
  if (!overlaps) return { taken: lease };
  await client.txn({ success: [remove(key)] });
  return lost(context, request);
}

function exhausted({ network, wanted, avoid = [] }: LeaseRequest, there: readonly LeaseKey[]): Error {
  if (wanted !== undefined) {
    const asked = prefixesOf(wanted);
    const holder = there.find((key) => subnetsOverlap(key, wanted));
    return failedPrecondition(
      `network ${network.name}: ${asked.join(' and ')} is not available${holder === undefined ? '' : `, ${ownerOf(holder.lease)} has it`}`,
      'Try again, or ask for another part of the network.',
    );
  }
  const { first, last } = network.range;
  return resourceExhausted(
    `network ${network.name}: no /${network.hostPrefix} is left between ${first.toString()} and ${last.toString()} (${there.length} taken${avoid.length === 0 ? '' : `, and this host has other networks at ${avoid.join(', ')}`})`,
    'Remove nodes that are gone for good (weft node rm), or create a network with a larger subnet or smaller node subnets (--host-prefix).',
  );
}

/** Since when the node has the subnet: its previous subnet keeps its date. */
const startOf = ({ now }: Context, { previous, since }: LeaseRequest, { subnet }: Subnets): string =>
  previous?.subnet.equals(subnet) === true && since !== undefined ? since : now().toISOString();

/** Reclaims the previous subnet from the holder that must yield it. */
async function reclaim(
  context: Context,
  request: LeaseRequest,
  held: Yielding,
  etcdLease: string,
): Promise<Outcome> {
  const { client, keys, log } = context;
  const { network } = request;
  const { subnets, since } = held;
  const lease = leaseOf(request, subnets, etcdLease, since);
  const key = keys.lease(network.name, subnets.subnet, subnets.subnet6);
  const { succeeded } = await client.txn({
    compare: [present(keys.config(network.name)), unchanged(held.key.key, held.key.modRevision)],
    success: [
      ...(key === held.key.key ? [] : [remove(held.key.key)]),
      put(key, encodeLease(lease), etcdLease),
    ],
  });
  if (!succeeded) return lost(context, request);
  client.revoke(held.key.etcdLease);
  log.warn('a subnet in use was reclaimed', {
    network: network.name,
    subnet: subnets.subnet.toString(),
    from: ownerOf(held.lease),
  });
  return { taken: lease };
}

function leaseOf(
  request: LeaseRequest,
  { subnet, subnet6 }: Subnets,
  etcdLease: string,
  since: string,
): StoredLease {
  const hasIpv6 = (subnet6 ?? subnet).family === 6;
  return {
    network: request.network.name,
    subnet,
    ...(subnet6 !== undefined && { subnet6 }),
    publicIp: request.publicIp,
    ...(hasIpv6 && request.publicIp6 && { publicIp6: request.publicIp6 }),
    ...(request.mtu !== undefined && { mtu: request.mtu }),
    backendType: backendTypeOf(request.network),
    ...(request.data && { data: hasIpv6 ? request.data : withoutFamily(request.data, 6) }),
    ...(request.beside && { beside: request.beside }),
    node: request.node,
    instance: request.instance,
    since,
    reservation: etcdLease === '0',
    etcdLease,
  };
}

/** In place of an etcd lease that is granted when the key is written. */
const NOT_YET = '';

/** The previous subnet of a node as a lease, and the key to write it to; undefined if the node had none. */
export function previousLease(
  context: Context,
  request: LeaseRequest,
): { key: string; value: string } | undefined {
  const { network, previous } = request;
  if (previous === undefined || !fits(network, previous)) return undefined;
  const lease = leaseOf(request, previous, NOT_YET, startOf(context, request, previous));
  return {
    key: context.keys.lease(network.name, previous.subnet, previous.subnet6),
    value: encodeLease(lease),
  };
}

/** The owner of a lease, for error texts. */
export function ownerOf(lease: Lease | undefined): string {
  if (lease === undefined) return 'an owner whose record cannot be read';
  if (lease.node !== undefined) return `node ${lease.node} (${lease.publicIp.toString()})`;
  return lease.publicIp.value === 0n ? 'a reservation' : `the flanneld at ${lease.publicIp.toString()}`;
}
