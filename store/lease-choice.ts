// Chooses the subnet of a node from the leases in etcd.
//
// Pure, so that every case can be a row of a table. leases.ts carries the choice out.
import { randomInt } from 'node:crypto';

import { addressBits, IpNetwork } from '../core/address.js';
import { hasHeldLonger } from '../core/lost-records.js';
import { fitsRange, prefixesOf, type Network, type SubnetRange } from '../core/network.js';
import type { LeaseRequest, StoredLease } from './store.js';

/** One lease key in etcd. */
export interface LeaseKey {
  key: string;
  subnet: IpNetwork;
  subnet6?: IpNetwork;
  modRevision: string;
  etcdLease: string;
  /** Absent if the value cannot be read; the key takes up its space all the same. */
  lease?: StoredLease;
}

export interface Subnets {
  subnet: IpNetwork;
  subnet6?: IpNetwork;
}

/** Number of free subnets to draw from, as flannel does: later ones only once these are taken. */
const CANDIDATES = 100;

/** A lease of weft's or flannel's: a key whose value can be read. */
export interface ReadLease {
  key: LeaseKey;
  lease: StoredLease;
}

/**
 * The node's own leases in order of preference: first that of its previous subnet. Then the public address decides, as in
 * flannel; then the instance, since an address may change; then the name, since a state directory may be lost. A lease of
 * another weft node with this node's address is last, and only used if the node has none of its own: when addresses move
 * from one node to another, the other's lease has them until it is rewritten, and each node would wait for the other.
 */
export function ownLeases(request: LeaseRequest, there: readonly LeaseKey[]): ReadLease[] {
  const rank = (lease: StoredLease): number | undefined => {
    const address = lease.publicIp.equals(request.publicIp);
    if (lease.instance === request.instance) return address ? 0 : 2;
    if (lease.node === undefined) return address ? 1 : undefined;
    if (lease.node === request.node) return address ? 3 : 4;
    return address ? 5 : undefined;
  };
  const hasOwn = there.some(({ lease }) => lease?.instance === request.instance);
  return there
    .flatMap((key) => {
      const order = key.lease && rank(key.lease);
      if (key.lease === undefined || order === undefined || (order === 5 && hasOwn)) return [];
      return [{ key, lease: key.lease, order: isPrevious(request, key) ? -1 : order }];
    })
    .sort((a, b) => a.order - b.order || (a.key.key < b.key.key ? -1 : 1));
}

const isPrevious = ({ previous }: LeaseRequest, { subnet }: Subnets): boolean =>
  previous?.subnet.equals(subnet) === true;

/** What a node does with its own leases. */
export interface OwnChoice {
  /** The lease to keep. */
  usable?: ReadLease;
  /** Leases to delete: a second lease of a node would lead its peers to a subnet that it does not serve. */
  stale: ReadLease[];
}

/** Which of the node's own leases (`own`, see ownLeases) to keep, and which to delete. */
export function chooseOwn(
  request: LeaseRequest,
  there: readonly LeaseKey[],
  own: readonly ReadLease[],
): OwnChoice {
  const { network, node, instance } = request;
  const usable = own.find(({ key, lease }) => fits(network, key) && !isGivenUp(request, key, lease));
  const stale = own.filter(
    ({ key, lease }) =>
      !lease.reservation && (!fits(network, key) || lease.instance === instance || lease.node === node),
  );
  // A restored etcd can have a lease that the node released long ago, and lack that of its running containers.
  const other = usable !== undefined && !isPrevious(request, usable.key);
  if (usable === undefined || (other && canReclaim(request, without(there, stale)))) return { stale };
  return { usable, stale: stale.filter((one) => one !== usable) };
}

/** A subnet of an earlier life of the node, in which it now has another network. */
const isGivenUp = (request: LeaseRequest, key: LeaseKey, { node, reservation }: StoredLease): boolean =>
  request.previous === undefined && node !== undefined && !reservation && isAvoided(request, key);

/** Whether the node has another network in these subnets. */
const isAvoided = ({ avoid = [] }: LeaseRequest, subnets: Subnets): boolean =>
  avoid.some((other) => prefixesOf(subnets).some((subnet) => other.overlaps(subnet)));

function without(there: readonly LeaseKey[], some: readonly ReadLease[]): LeaseKey[] {
  const keys = new Set(some.map(({ key }) => key));
  return there.filter((key) => !keys.has(key));
}

/** Whether containers run in the previous subnet, and no other node has it, or has had it for longer. */
function canReclaim(request: LeaseRequest, others: readonly LeaseKey[]): boolean {
  const { network, previous, inUse } = request;
  if (previous === undefined || inUse !== true || !fits(network, previous)) return false;
  return isFree(previous, others) || holderToYield(request, others) !== undefined;
}

/** A lease that its holder must yield, and the subnets taken with it. */
export interface Yielding extends ReadLease {
  subnets: Subnets;
  since: string;
}

/**
 * The lease that must yield the previous subnet: of a weft node that got it while etcd had lost the record of its owner.
 * Undefined if nothing runs in the subnet, if it is free, or if its holder has had it for longer.
 */
export function holderToYield(
  { network, previous, since, inUse }: LeaseRequest,
  there: readonly LeaseKey[],
): Yielding | undefined {
  if (previous === undefined || since === undefined || inUse !== true || !fits(network, previous))
    return undefined;
  const key = there.find(({ subnet }) => subnet.equals(previous.subnet));
  const lease = key?.lease;
  // A flanneld cannot be made to take another subnet; a reservation is the operator's decision.
  if (key === undefined || lease?.node === undefined || lease.reservation) return undefined;
  if (!hasHeldLonger(since, lease.since)) return undefined;
  const others = there.filter((other) => other !== key);
  return isFree(previous, others) ? { key, lease, subnets: previous, since } : undefined;
}

/** Whether the network would lease these subnets now. */
export function fits(network: Network, { subnet, subnet6 }: Subnets): boolean {
  if (!fitsRange(network.range, network.hostPrefix, subnet)) return false;
  if (network.range6 === undefined || network.hostPrefix6 === undefined) return subnet6 === undefined;
  return subnet6 !== undefined && fitsRange(network.range6, network.hostPrefix6, subnet6);
}

/** Whether no lease overlaps these subnets. */
export const isFree = (subnets: Subnets, there: readonly LeaseKey[]): boolean =>
  !there.some((key) => subnetsOverlap(key, subnets));

export const subnetsOverlap = (a: Subnets, b: Subnets): boolean =>
  prefixesOf(a).some((one) => prefixesOf(b).some((other) => one.overlaps(other)));

/**
 * Returns the previous subnet if it is free, otherwise a random one of the first hundred that are free and not to be avoided;
 * undefined if there is none.
 */
export function chooseSubnets(
  request: LeaseRequest,
  there: readonly LeaseKey[],
  random = randomInt,
): Subnets | undefined {
  const { network, previous, wanted, inUse, avoid = [] } = request;
  if (wanted !== undefined) {
    const these = withSixth(request, wanted, there, random);
    return these !== undefined && fits(network, these) && isFree(these, there) ? these : undefined;
  }
  if (previous !== undefined) {
    const again = withSixth(request, previous, there, random);
    const isUsable = again !== undefined && (inUse === true || !isAvoided(request, again));
    if (isUsable && fits(network, again) && isFree(again, there)) return again;
  }
  const free = firstFree(network.range, network.hostPrefix, [...there.flatMap(prefixesOf), ...avoid]);
  const subnet = pick(free, random);
  return subnet && withSixth(request, { subnet }, there, random);
}

const pick = <T>(from: readonly T[], random: (max: number) => number): T | undefined =>
  from.length === 0 ? undefined : from[random(from.length)];

/** Adds the IPv6 half if the network has one: that of the same number, so that nodes race only once. */
function withSixth(
  { network, avoid = [] }: LeaseRequest,
  { subnet, subnet6 }: Subnets,
  there: readonly LeaseKey[],
  random: (max: number) => number,
): Subnets | undefined {
  const { subnet6: whole, range6, hostPrefix6 } = network;
  if (whole === undefined || range6 === undefined || hostPrefix6 === undefined) return { subnet };
  if (subnet6 !== undefined) return { subnet, subnet6 };
  const taken = [...there.flatMap((key) => key.subnet6 ?? []), ...avoid];
  const number = (subnet.base.value - network.subnet.base.value) >> BigInt(32 - network.hostPrefix);
  const same = IpNetwork.of(whole.at(number << BigInt(128 - hostPrefix6)), hostPrefix6);
  const usable = fitsRange(range6, hostPrefix6, same) && !taken.some((other) => other.overlaps(same));
  const chosen = usable ? same : pick(firstFree(range6, hostPrefix6, taken), random);
  return chosen && { subnet, subnet6: chosen };
}

/** The first hundred subnets of a range that overlap no taken one. */
function firstFree(range: SubnetRange, length: number, taken: readonly IpNetwork[]): IpNetwork[] {
  const bits = BigInt(addressBits(range.first.family) - length);
  // By their number at this length: a shorter taken prefix covers many.
  const blocks = taken
    .filter((subnet) => subnet.family === range.first.family)
    .map((subnet) => ({ from: subnet.base.value >> bits, to: subnet.last.value >> bits }))
    .sort((a, b) => (a.from < b.from ? -1 : a.from > b.from ? 1 : 0));
  const free: IpNetwork[] = [];
  const last = range.last.base.value >> bits;
  let number = range.first.base.value >> bits;
  let next = 0;
  while (number <= last && free.length < CANDIDATES) {
    while (next < blocks.length && (blocks[next]?.to ?? 0n) < number) next++;
    const block = blocks[next];
    if (block !== undefined && block.from <= number) {
      number = block.to + 1n;
      next++;
      continue;
    }
    free.push(IpNetwork.of(range.first.base.plus((number << bits) - range.first.base.value), length));
    number++;
  }
  return free;
}
