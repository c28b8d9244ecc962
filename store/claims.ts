// Address claims: addresses used outside the subnet that they belong to.
//
// Where no node leases the space, the claim alone reserves the address. Where a weft node does, its agent is asked through
// etcd and answers there; a flanneld cannot be asked.
//
//   asked ──the owner agrees──▶ granted (without etcd lease)     asked ──the owner refuses──▶ refused ──the claimant──▶ deleted
//
// A claim in the state "asked" has a short etcd lease, so that it is deleted if the claimant dies.
import type { IKeyValue } from 'etcd3';

import { withDeadline } from '../core/deadline.js';
import { IpNetwork, type IpAddress } from '../core/address.js';
import { alreadyExists, failedPrecondition, unavailable } from '../core/errors.js';
import { hostPrefixIn } from '../core/families.js';
import { reservedIn } from '../core/drivers/index.js';
import { claimsConflict, type Claim, type ClaimHolder } from '../core/records.js';
import { DisplacedNodes } from './displaced-nodes.js';
import { decodeLease } from './lease-codec.js';
import { ownerOf } from './leases.js';
import { checkInside } from './networks.js';
import { decodeClaim, encodeClaim } from './record-codec.js';
import { ifReadable } from '../core/parse.js';
import type { ClaimRequest, StoredLease } from './store.js';
import {
  absent,
  get,
  getAll,
  keyAt,
  present,
  put,
  rangeAt,
  read,
  remove,
  unchanged,
  update,
  type Context,
} from './transaction.js';

/** Milliseconds that the owner's agent has to answer. */
const ANSWER_WITHIN = 3000;
/** Seconds after which the unanswered claim of a dead claimant is deleted. */
const REQUEST_TTL = 10;

interface Lessee {
  subnet: IpNetwork;
  /** Absent if the record cannot be read. */
  lease?: StoredLease;
}

export async function claimAddress(
  context: Context,
  request: ClaimRequest,
  signal?: AbortSignal,
): Promise<Claim> {
  const { client, keys } = context;
  const { network, ip, node, endpoint } = request;
  checkInside(network, ip);
  const key = keys.claim(network.name, ip.toString());
  const claim: Claim = { network: network.name, ip, node, endpoint, state: 'granted' };
  for (let attempt = 1; attempt <= 5; attempt++) {
    signal?.throwIfAborted();
    const { responses } = await client.txn({ success: [get(key), getAll(keys.subnets(network.name))] });
    const there = keyAt(responses, 0);
    const existing = there && readClaim(context, there);
    if (
      there !== undefined &&
      existing?.state === 'granted' &&
      existing.endpoint === endpoint &&
      existing.node === node
    ) {
      return existing;
    }
    if (there !== undefined && (existing?.endpoint !== endpoint || existing.node !== node))
      throw claimed(context, network.name, ip, existing, 'Choose another address.');
    const lessee = findLessee(context, rangeAt(responses, 1), ip);
    checkUse(request, lessee?.subnet);
    await checkPast(context, request, signal);
    const done =
      lessee === undefined
        ? await claimFree(context, key, claim, there)
        : await ask(
            context,
            key,
            { ...claim, state: 'asked' },
            there,
            await mayAsk(context, request, lessee),
            signal,
          );
    if (done !== undefined) return done;
  }
  throw unavailable(
    `network ${network.name}: the leases around ${ip.toString()} keep changing`,
    'Try again.',
  );
}

function readClaim({ keys }: Context, kv: IKeyValue): Claim | undefined {
  const parsed = keys.parse(kv.key.toString());
  return parsed.kind === 'claim' ? ifReadable(() => decodeClaim(parsed, kv.value.toString())) : undefined;
}

function claimed(
  { replica }: Context,
  network: string,
  ip: IpAddress,
  by: Claim | undefined,
  otherwise: string,
): Error {
  const who =
    by === undefined ? 'a record that cannot be read' : `endpoint ${by.endpoint} on node ${by.node}`;
  // A gone node's claim is not taken over: it may be an address that several nodes have set aside.
  const next = by === undefined ? otherwise : new DisplacedNodes(replica.view).nextStep(by.node, otherwise);
  return alreadyExists(`network ${network}: ${ip.toString()} is claimed by ${who}`, next);
}

/** The lease whose subnet contains the address. */
function findLessee({ keys }: Context, kvs: readonly IKeyValue[], ip: IpAddress): Lessee | undefined {
  for (const kv of kvs) {
    const parsed = keys.parse(kv.key.toString());
    if (parsed.kind !== 'lease') continue;
    const subnet = [parsed.subnet, parsed.subnet6].find((subnet) => subnet?.contains(ip) === true);
    if (subnet === undefined) continue;
    const lease = ifReadable(() => decodeLease(parsed, kv.value.toString(), kv.lease));
    return { subnet, ...(lease && { lease }) };
  }
  return undefined;
}

/** Refuses an address that every lessee of the space needs for itself. @throws WeftError FAILED_PRECONDITION */
function checkUse({ network, ip }: ClaimRequest, leased: IpNetwork | undefined): void {
  const hostPrefix = hostPrefixIn(network, ip.family) ?? 64;
  const why = reservedIn(network, leased ?? IpNetwork.of(ip, hostPrefix), ip);
  if (why === undefined) return;
  throw failedPrecondition(`network ${network.name}: ${ip.toString()} ${why}`, 'Choose another address.');
}

/**
 * The node that owns the address, if it can be asked.
 * @throws WeftError FAILED_PRECONDITION naming the owner of the subnet
 */
async function mayAsk(
  { client, keys }: Context,
  request: ClaimRequest,
  { subnet, lease }: Lessee,
): Promise<string> {
  const { network, ip, node } = request;
  const refuse = (why: string, next: string): Error =>
    failedPrecondition(`network ${network.name}: ${ip.toString()} is in ${subnet.toString()}, ${why}`, next);
  const owner = lease?.node;
  if (owner === undefined) {
    throw refuse(
      `the subnet of ${ownerOf(lease)}, which cannot be asked for it`,
      'Choose an address of a weft node or a free one.',
    );
  }
  if (owner === node) throw refuse("this node's own subnet, and needs no claim", 'Give it out from there.');
  const alive = await read(client, keys.alive(owner));
  if (alive !== undefined) return owner;
  throw refuse(
    `the subnet of node ${owner}, which is down and cannot agree`,
    'Choose another address, or bring that node up.',
  );
}

/**
 * A record that etcd has lost is not free: its owner comes back. What was lost is known only once the view is of this etcd.
 * @throws WeftError FAILED_PRECONDITION naming the owner
 */
async function checkPast(
  { replica }: Context,
  { network, ip, retainedFor }: ClaimRequest,
  signal: AbortSignal | undefined,
): Promise<void> {
  await withDeadline(signal, ANSWER_WITHIN, (until) =>
    replica.until(() => replica.state.connected, until),
  ).catch(() => undefined);
  signal?.throwIfAborted();
  if (!replica.state.connected) throw unavailable('etcd has just come back', 'Try again.');
  const why = retainedFor?.();
  if (why === undefined) return;
  throw failedPrecondition(
    `network ${network.name}: ${ip.toString()} ${why}`,
    'Choose another address, or bring that node up; of one that stays away it is free after an hour.',
  );
}

/** Returns undefined if the address was claimed or leased concurrently; the caller checks again. */
async function claimFree(
  context: Context,
  key: string,
  claim: Claim,
  there: IKeyValue | undefined,
): Promise<Claim | undefined> {
  const { client, keys } = context;
  const { succeeded, responses } = await client.txn({
    compare: [present(keys.config(claim.network)), unchanged(key, there?.mod_revision ?? 0)],
    success: [put(key, encodeClaim(claim)), getAll(keys.subnets(claim.network)), get(key)],
  });
  if (!succeeded) return undefined;
  // A lease taken after this transaction sees the claim; one taken before it is seen here.
  if (findLessee(context, rangeAt(responses, 1), claim.ip) === undefined) return claim;
  const mine = keyAt(responses, 2);
  await client.txn({ compare: [unchanged(key, mine?.mod_revision ?? 0)], success: [remove(key)] });
  return undefined;
}

/** Returns undefined if the record changed concurrently; the caller checks again. */
async function ask(
  context: Context,
  key: string,
  claim: Claim,
  there: IKeyValue | undefined,
  owner: string,
  signal: AbortSignal | undefined,
): Promise<Claim | undefined> {
  const { client, keys, replica } = context;
  const etcdLease = await client.grant(REQUEST_TTL);
  try {
    const { succeeded, header } = await client.txn({
      compare: [present(keys.config(claim.network)), unchanged(key, there?.mod_revision ?? 0)],
      success: [put(key, encodeClaim(claim), etcdLease)],
    });
    if (!succeeded) return undefined;
    const asked = Number(header.revision);
    // A newer revision is the answer, or the end of the claim.
    const answered = (): boolean => {
      const now = replica.modRevision(key);
      return now === undefined ? replica.includes(key, asked) : now > asked;
    };
    await withDeadline(signal, ANSWER_WITHIN, (until) => replica.until(answered, until)).catch(
      () => undefined,
    );
    return await conclude(context, key, claim, owner, signal);
  } finally {
    // A granted claim has no etcd lease; in every other state the claim is deleted with this one.
    client.revoke(etcdLease);
  }
}

/** Reads the answer, and deletes the claim if there is none. */
async function conclude(
  context: Context,
  key: string,
  claim: Claim,
  owner: string,
  signal: AbortSignal | undefined,
): Promise<Claim | undefined> {
  const { client } = context;
  const name = `network ${claim.network}: ${claim.ip.toString()}`;
  for (;;) {
    const kv = await read(client, key);
    const answer = kv && readClaim(context, kv);
    if (kv === undefined || answer?.endpoint !== claim.endpoint || answer.node !== claim.node)
      return undefined;
    if (answer.state === 'granted') return answer;
    const { succeeded } = await client.txn({
      compare: [unchanged(key, kv.mod_revision)],
      success: [remove(key)],
    });
    // The answer arrived in the meantime.
    if (!succeeded) continue;
    signal?.throwIfAborted();
    if (answer.state === 'refused') {
      throw failedPrecondition(
        `${name} was refused by node ${owner}: ${answer.why ?? 'no reason given'}`,
        'Choose another address.',
      );
    }
    throw failedPrecondition(
      `${name} is in the subnet of node ${owner}, which did not agree within ${ANSWER_WITHIN / 1000} s`,
      `Choose another address, or see what node ${owner} does (weft node inspect ${owner}).`,
    );
  }
}

export async function answerClaim(
  context: Context,
  claim: Claim,
  answer: { granted: true } | { granted: false; why: string },
): Promise<boolean> {
  const { client, keys } = context;
  const key = keys.claim(claim.network, claim.ip.toString());
  for (;;) {
    const kv = await read(client, key);
    const there = kv && readClaim(context, kv);
    if (kv === undefined || there?.endpoint !== claim.endpoint || there.node !== claim.node) return false;
    if (there.state !== 'asked') return there.state === (answer.granted ? 'granted' : 'refused');
    const { succeeded } = await client.txn({
      compare: [unchanged(key, kv.mod_revision)],
      success: [
        answer.granted
          ? put(key, encodeClaim({ ...there, state: 'granted' }))
          : update(key, encodeClaim({ ...there, state: 'refused', why: answer.why })),
      ],
    });
    if (succeeded) return true;
  }
}

export async function restoreClaim(context: Context, claim: Claim, from?: ClaimHolder): Promise<boolean> {
  const { client, keys } = context;
  const key = keys.claim(claim.network, claim.ip.toString());
  const own = put(key, encodeClaim({ ...claim, state: 'granted' }));
  const { succeeded, responses } = await client.txn({
    compare: [present(keys.config(claim.network)), absent(key)],
    success: [own],
    failure: [get(key)],
  });
  if (succeeded) return true;
  const there = keyAt(responses, 0);
  const by = there && readClaim(context, there);
  if (there !== undefined && from !== undefined && by?.node === from.node && by.endpoint === from.endpoint) {
    const compare = [unchanged(key, there.mod_revision)];
    if ((await client.txn({ compare, success: [own] })).succeeded) return true;
  }
  if (there !== undefined && (by === undefined || claimsConflict(by, claim))) {
    throw claimed(
      context,
      claim.network,
      claim.ip,
      by,
      'Detach one of the two and attach it with another address.',
    );
  }
  return false;
}

export async function deleteClaim(
  context: Context,
  network: string,
  ip: string,
  endpoint: string,
): Promise<void> {
  const { client, keys } = context;
  const key = keys.claim(network, ip);
  for (;;) {
    const kv = await read(client, key);
    if (kv === undefined || readClaim(context, kv)?.endpoint !== endpoint) return;
    const { succeeded } = await client.txn({
      compare: [unchanged(key, kv.mod_revision)],
      success: [remove(key)],
    });
    if (succeeded) return;
  }
}
