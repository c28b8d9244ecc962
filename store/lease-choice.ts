// Which subnet a node takes, decided from what is in etcd now: pure, so that every case can stand in a table. leases.ts
// carries the decision out.
import { randomInt } from 'node:crypto';

import { addressBits, IpNetwork } from '../core/address.js';
import { hasHeldLonger } from '../core/lost-records.js';
import { fitsRange, type Network, type SubnetRange } from '../core/network.js';
import type { LeaseRequest, StoredLease } from './store.js';

/** One lease key as it stands in etcd. */
export interface LeaseKey {
  key: string;
  subnet: IpNetwork;
  subnet6?: IpNetwork;
  modRevision: string;
  etcdLease: string;
  /** Absent where the value cannot be read; the key takes its space up all the same. */
  lease?: StoredLease;
}

export interface Subnets {
  subnet: IpNetwork;
  subnet6?: IpNetwork;
}

/** How many free subnets are drawn from, as flannel does it: later ones only when these are gone. */
const CANDIDATES = 100;

/** A lease of weft's or flannel's: a key whose value can be read. */
export interface ReadLease {
  key: LeaseKey;
  lease: StoredLease;
}

/**
 * The node's own leases, the one to use first: that of its previous subnet. Then the public address decides, as with
 * flannel; then the instance, for an address may change; then the name, for a state directory may be lost. A lease of
 * another weft node with this node's address comes last, and only where the node has none of its own: addresses that moved
 * from one node to another stand in a lease of the one until it has rewritten it, and each would wait for the other.
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

/** What a node does about its own leases. */
export interface OwnChoice {
  /** The one to go on with. */
  usable?: ReadLease;
  /** Those to delete: a second lease of a node would lead its peers to a subnet that it does not serve. */
  stale: ReadLease[];
}

/** Which of the node's own leases (`own`, see ownLeases) is gone on with, and which go. */
export function chooseOwn(
  request: LeaseRequest,
  there: readonly LeaseKey[],
  own: readonly ReadLease[],
): OwnChoice {
  const { network, node, instance } = request;
  const usable = own.find(({ key }) => fits(network, key));
  const stale = own.filter(
    ({ key, lease }) =>
      !lease.reservation && (!fits(network, key) || lease.instance === instance || lease.node === node),
  );
  // A copy of etcd's past can have a lease that the node gave up long ago, and not the one that its containers run in.
  const other = usable !== undefined && !isPrevious(request, usable.key);
  if (usable === undefined || (other && canReclaim(request, without(there, stale)))) return { stale };
  return { usable, stale: stale.filter((one) => one !== usable) };
}

function without(there: readonly LeaseKey[], some: readonly ReadLease[]): LeaseKey[] {
  const keys = new Set(some.map(({ key }) => key));
  return there.filter((key) => !keys.has(key));
}

/** Whether containers run in the previous subnet, and nobody else has it, or has it for longer. */
function canReclaim(request: LeaseRequest, others: readonly LeaseKey[]): boolean {
  const { network, previous, inUse } = request;
  if (previous === undefined || inUse !== true || !fits(network, previous)) return false;
  return isFree(previous, others) || holderToYield(request, others) !== undefined;
}

/** A lease that its holder has to give back, and what is taken with it. */
export interface Yielding extends ReadLease {
  subnets: Subnets;
  since: string;
}

/**
 * Who has to give the previous subnet back: a node of weft's that got it while etcd did not know whose it was. Undefined:
 * nobody, for nothing runs in it, nobody has it, or whoever has it has had it for longer.
 */
export function holderToYield(
  { network, previous, since, inUse }: LeaseRequest,
  there: readonly LeaseKey[],
): Yielding | undefined {
  if (previous === undefined || since === undefined || inUse !== true || !fits(network, previous))
    return undefined;
  const key = there.find(({ subnet }) => subnet.equals(previous.subnet));
  const lease = key?.lease;
  // A flanneld cannot be told to take another; a reservation is somebody's decision.
  if (key === undefined || lease?.node === undefined || lease.reservation) return undefined;
  if (!hasHeldLonger(since, lease.since)) return undefined;
  const others = there.filter((other) => other !== key);
  return isFree(previous, others) ? { key, lease, subnets: previous, since } : undefined;
}

/** Whether the network would give these out now. */
export function fits(network: Network, { subnet, subnet6 }: Subnets): boolean {
  if (!fitsRange(network.range, network.hostPrefix, subnet)) return false;
  if (network.range6 === undefined || network.hostPrefix6 === undefined) return subnet6 === undefined;
  return subnet6 !== undefined && fitsRange(network.range6, network.hostPrefix6, subnet6);
}

/** Whether nobody has an address of these. */
export function isFree({ subnet, subnet6 }: Subnets, there: readonly LeaseKey[]): boolean {
  return !there.some(
    (key) =>
      key.subnet.overlaps(subnet) ||
      (key.subnet6 !== undefined && subnet6 !== undefined && key.subnet6.overlaps(subnet6)),
  );
}

/**
 * The previous subnet where it can be had, else one at random of the first hundred that are free; undefined where none
 * is.
 */
export function chooseSubnets(
  request: LeaseRequest,
  there: readonly LeaseKey[],
  random = randomInt,
): Subnets | undefined {
  const { network, previous, wanted } = request;
  if (wanted !== undefined) {
    const these = withSixth(network, wanted, there, random);
    return these !== undefined && fits(network, these) && isFree(these, there) ? these : undefined;
  }
  if (previous !== undefined) {
    const again = withSixth(network, previous, there, random);
    if (again !== undefined && fits(network, again) && isFree(again, there)) return again;
  }
  const free = firstFree(
    network.range,
    network.hostPrefix,
    there.map((key) => key.subnet),
  );
  const subnet = pick(free, random);
  return subnet && withSixth(network, { subnet }, there, random);
}

const pick = <T>(from: readonly T[], random: (max: number) => number): T | undefined =>
  from.length === 0 ? undefined : from[random(from.length)];

/** Adds the IPv6 half where the network has one: the one of the same number, so that nodes that race do so only once. */
function withSixth(
  network: Network,
  { subnet, subnet6 }: Subnets,
  there: readonly LeaseKey[],
  random: (max: number) => number,
): Subnets | undefined {
  const { subnet6: whole, range6, hostPrefix6 } = network;
  if (whole === undefined || range6 === undefined || hostPrefix6 === undefined) return { subnet };
  if (subnet6 !== undefined) return { subnet, subnet6 };
  const taken = there.flatMap((key) => (key.subnet6 === undefined ? [] : [key.subnet6]));
  const number = (subnet.base.value - network.subnet.base.value) >> BigInt(32 - network.hostPrefix);
  const same = IpNetwork.of(whole.at(number << BigInt(128 - hostPrefix6)), hostPrefix6);
  const usable = fitsRange(range6, hostPrefix6, same) && !taken.some((other) => other.overlaps(same));
  const chosen = usable ? same : pick(firstFree(range6, hostPrefix6, taken), random);
  return chosen && { subnet, subnet6: chosen };
}

/** The first hundred subnets of a range that overlap none that is taken. */
function firstFree(range: SubnetRange, length: number, taken: readonly IpNetwork[]): IpNetwork[] {
  const bits = BigInt(addressBits(range.first.family) - length);
  // By their number at this length: a shorter one that is taken covers many.
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
