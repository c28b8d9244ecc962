// Kernel objects for remote peers: their subnet leases and address claims, compiled for the reconciler.
//
// A lease or claim that disappears from etcd without a removal is retained for a while (lost-leases.ts), and its objects
// stay.
import { IpAddress } from '../../core/address.js';
import { compilePeer, type Membership } from '../../core/compile.js';
import { messageOf } from '../../core/errors.js';
import { whyClaimDisbelieved } from '../../core/claim-trust.js';
import { mayOverlap, whyDisbelieved } from '../../core/lease-trust.js';
import type { KernelObject } from '../../core/objects/index.js';
import {
  addressesOf,
  claimsConflict,
  type Claim,
  type ClaimHolder,
  type Lease,
  type Removal,
} from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { Change, Store, StoredLease } from '../../store/store.js';
import { claimRecord, type Claimed, type AddressClaims } from './address-claims.js';
import { networkScope, type ProblemKey, type Problems } from '../health/index.js';
import { LostLeases } from './lost-leases.js';
import { type Reconciler, type RecordKey, RecordMap } from '../reconcile/index.js';

export interface PeerRoutesOptions {
  store: Store;
  reconciler: Reconciler;
  claims: AddressClaims;
  log: Logger;
  problems: Problems;
  node: string;
  instance: string;
  /** Whether flannelds may be nodes of its networks; absent: they may. */
  flannel?: boolean;
  /** Called when a retained record has gone. */
  dropped?: () => Promise<void>;
  /** This node in the network, where it is on it. */
  member: (network: string) => Claimed | undefined;
}

/** Milliseconds after which a living node has written its claims back, or released them. */
const CONFIRMED_MS = 60_000;

/** By record; undefined: removed. */
export type Records = RecordMap<readonly KernelObject[] | undefined>;

const peerRecord = (network: string, subnet: string): RecordKey => ({ kind: 'peer', network, id: subnet });

const leaseProblem = (network: string, subnet: string): ProblemKey => ({
  scope: networkScope(network),
  kind: 'peer-lease',
  id: subnet,
});

const claimProblem = (network: string, ip: string): ProblemKey => ({
  scope: networkScope(network),
  kind: 'peer-claim',
  id: ip,
});

export class PeerRoutes {
  readonly #lost: LostLeases;
  /** Changes that are losses, decided in note(): by the time of handle() the view is another one. */
  readonly #losses = new WeakSet<Change>();
  /** The last state of each lease that was believed: a state that is not believed does not replace it. */
  readonly #believed = new RecordMap<StoredLease>();

  constructor(private readonly options: PeerRoutesOptions) {
    this.#lost = new LostLeases(() => options.store.view, options.node);
  }

  /** All of a network. */
  of(claimed: Claimed): Records {
    const { name } = claimed.membership.network;
    return new RecordMap([...this.#peersOf(claimed, this.#leasesOf(name)), ...this.#claims(claimed)]);
  }

  /**
   * Retains what disappeared and releases what is back, as soon as the store reports it and before the changes have their
   * turn in handle(): an address that only etcd has lost must never look free.
   */
  note(batch: readonly Change[]): void {
    for (const change of batch) {
      if (change.kind === 'lease') this.#noteLease(change, batch);
      else if (change.kind === 'claim') this.#noteClaim(change);
    }
  }

  #noteLease(change: Extract<Change, { kind: 'lease' }>, batch: readonly Change[]): void {
    const { network, subnet, before } = change;
    const record = peerRecord(network, subnet);
    this.#lost.restored(record);
    const ms = this.#lost.retentionOf(change, batch);
    if (ms === 0 || before === undefined || this.options.member(network) === undefined) {
      if (change.after === undefined) this.#forget(network, subnet);
      return;
    }
    this.options.problems.clear(leaseProblem(network, subnet));
    this.#losses.add(change);
    this.#lost.retain(record, before, ms, () => {
      // Its change may not have had its turn yet: then it is a removal.
      this.#losses.delete(change);
      this.#forget(network, subnet);
      this.#drop(network, record);
    });
  }

  /** The lease counts no more. */
  #forget(network: string, subnet: string): void {
    this.#believed.delete(peerRecord(network, subnet));
    this.options.problems.clear(leaseProblem(network, subnet));
  }

  #noteClaim(change: Extract<Change, { kind: 'claim' }>): void {
    const { network, before } = change;
    if (this.#isQuestion(change)) return;
    this.#lost.restored(claimRecord(change));
    if (change.after === undefined) this.options.problems.clear(claimProblem(network, change.ip));
    // Its user claims it again. This node knows which of its own addresses are in use.
    if (!isLost(change) || before === undefined || before.node === this.options.node) return;
    if (this.options.member(network) !== undefined) this.#retainClaim(before, LostLeases.lostMs);
  }

  #retainClaim(claim: Claim, ms: number, isOver = (): boolean => true): void {
    const record = claimRecord(claim);
    this.#lost.retain(record, claim, ms, () => {
      if (!isOver()) return this.#retainClaim(claim, LostLeases.lostMs);
      const claimed = this.options.member(claim.network);
      if (claimed !== undefined) this.options.claims.ended(claimed, claim);
      this.#drop(claim.network, record);
    });
  }

  /** A request for an address whose granted claim is retained: it waits until the retained one has ended. */
  #isQuestion(change: Extract<Change, { kind: 'claim' }>): boolean {
    return (change.after ?? change.before)?.state !== 'granted' && this.#lost.has(claimRecord(change));
  }

  /** The records of a change that note() has seen. */
  ofLease(claimed: Claimed, change: Extract<Change, { kind: 'lease' }>): Records {
    const { network, subnet, before, after } = change;
    // Since note() saw its end, its earlier states have had their turn.
    if (after === undefined) this.options.problems.clear(leaseProblem(network, subnet));
    if (this.#losses.has(change)) return new RecordMap();
    if (after === undefined) this.#forget(network, subnet);
    const changed = after ?? before;
    const lengths = this.#lengthsIn(network);
    // Whether another lease is believed may depend on this one, if they are of different lengths.
    const isAlike = changed === undefined || (lengths.size <= 1 && lengths.has(changed.subnet.length));
    const others = isAlike ? [] : this.#leasesOf(network).filter((other) => mayOverlap(other, changed));
    // Routes of claims lead to their user's node, which the lease names.
    return new RecordMap([
      ...(others.length === 0 ? [] : this.#peersOf(claimed, others)),
      [peerRecord(network, subnet), this.#peer(claimed.membership, after, lengths)],
      ...this.#claims(claimed),
    ]);
  }

  /** The leases of a node whose record has changed: whether they are believed depends on it. */
  ofNode(claimed: Claimed, node: string): Records {
    const { name } = claimed.membership.network;
    const own = this.#leasesOf(name).filter((lease) => lease.node === node);
    return new RecordMap(own.length === 0 ? [] : [...this.#peersOf(claimed, own), ...this.#claims(claimed)]);
  }

  #leasesOf(network: string): StoredLease[] {
    return [...(this.options.store.view.leases.get(network)?.values() ?? [])];
  }

  #peersOf(
    claimed: Claimed,
    leases: readonly StoredLease[],
  ): [RecordKey, readonly KernelObject[] | undefined][] {
    const { membership } = claimed;
    const { name } = membership.network;
    const lengths = this.#lengthsIn(name);
    return leases.map((lease) => [
      peerRecord(name, lease.subnet.toString()),
      this.#peer(membership, lease, lengths),
    ]);
  }

  /** Of the subnets that are leased: in most networks there is one, and no two leases can overlap. */
  #lengthsIn(network: string): ReadonlySet<number> {
    const lengths = new Set<number>();
    for (const { subnet } of this.options.store.view.leases.get(network)?.values() ?? [])
      lengths.add(subnet.length);
    return lengths;
  }

  ofClaim(claimed: Claimed, change: Extract<Change, { kind: 'claim' }>): Records {
    const { before, after } = change;
    // As in ofLease().
    if (after === undefined) this.options.problems.clear(claimProblem(change.network, change.ip));
    if (this.#isQuestion(change)) return new RecordMap();
    if (after !== undefined) return new RecordMap([[claimRecord(change), this.#objects(claimed, after)]]);
    if (isLost(change) && before?.node !== this.options.node) return new RecordMap();
    if (before !== undefined) this.options.claims.ended(claimed, before);
    return new RecordMap([[claimRecord(change), undefined]]);
  }

  /**
   * Checks grants of an earlier run whose claims are not in etcd: given back while this agent was down, or lost with etcd's
   * past. A living node writes its claims back soon; of another node it cannot be known, so those are retained longer.
   */
  confirm({ membership, granted }: Claimed): void {
    const { name: network } = membership.network;
    const { view } = this.options.store;
    for (const [ip, { node, endpoint }] of granted) {
      const claim: Claim = { network, ip: IpAddress.parse(ip), node, endpoint, state: 'granted' };
      if (view.claims.get(network)?.has(ip) === true || this.#lost.has(claimRecord(claim))) continue;
      this.#retainClaim(
        claim,
        CONFIRMED_MS,
        () => node === this.options.node || view.alive.has(node) || view.removals.has(`node ${node}`),
      );
    }
  }

  /** Whose an address is by a retained lease or claim; undefined where there is none, or it is the asker's own. */
  retainedFor(network: string, ip: IpAddress, asker: ClaimHolder): string | undefined {
    const claim = this.#lost.claims(network).find((claim) => claim.ip.equals(ip));
    if (claim !== undefined && claimsConflict(claim, asker))
      return `is endpoint ${claim.endpoint}'s on node ${claim.node}, whose claim etcd has lost`;
    for (const { node, subnet, subnet6 } of this.#lost.leases(network)) {
      const inside = [subnet, subnet6].find((subnet) => subnet?.contains(ip) === true);
      if (inside !== undefined)
        return `is in ${inside.toString()}, the subnet of node ${node ?? '?'}, whose lease etcd has lost`;
    }
    return undefined;
  }

  /** The leases of other nodes that count, those that etcd has lost included. */
  standing(network: string): Lease[] {
    return [...this.#believed].flatMap(([, lease]) => (lease.network === network ? [lease] : []));
  }

  /** What leads to them, and to addresses that they claim, with what is retained. */
  standingObjects(claimed: Claimed): KernelObject[] {
    const { membership } = claimed;
    const { name } = membership.network;
    const claims = [...this.#claims(claimed).values()].flatMap((objects) => objects ?? []);
    const retained = this.#lost
      .claims(name)
      .flatMap((claim) => this.options.claims.objects(claimed, claim, this.#lost.leases(name)));
    return [
      ...this.standing(name).flatMap((lease) => compilePeer(membership, lease)),
      ...claims,
      ...retained,
    ];
  }

  /** A tombstone has come: what was retained of its node or network goes. */
  removed(removal: Removal): void {
    this.#lost.removed(removal);
  }

  stop(): void {
    this.#lost.stop();
  }

  #claims(claimed: Claimed): Records {
    const all = this.options.claims.of(claimed.membership.network.name);
    const standing = all.filter((claim) => claim.state === 'granted' || !this.#lost.has(claimRecord(claim)));
    return new RecordMap(
      standing.map((claim) => [claimRecord(claim), this.#objects(claimed, claim)] as const),
    );
  }

  /** The claims on the addresses of an endpoint that has changed: whether they are believed depends on it. */
  ofEndpoint(claimed: Claimed, { network, before, after }: Extract<Change, { kind: 'endpoint' }>): Records {
    const claims = this.options.store.view.claims.get(network);
    if (claims === undefined) return new RecordMap();
    const ips = [before, after].flatMap((endpoint) => (endpoint === undefined ? [] : addressesOf(endpoint)));
    const there = [...new Set(ips)].flatMap((ip) => claims.get(ip) ?? []);
    return new RecordMap(there.map((claim) => [claimRecord(claim), this.#objects(claimed, claim)] as const));
  }

  #objects(claimed: Claimed, claim: Claim): readonly KernelObject[] {
    const { network, ip, node, endpoint } = claim;
    const { problems, store } = this.options;
    const key = claimProblem(network, ip.toString());
    const why = whyClaimDisbelieved(claim, {
      // Of its own subnet this node knows whom it has granted what.
      leases: this.#leasesOf(network).filter((lease) => lease.node !== this.options.node),
      endpoints: store.view.endpoints.get(network)?.values() ?? [],
    });
    if (why === undefined) problems.clear(key);
    else {
      problems.set(key, {
        what: `address ${ip.toString()} of network ${network}, which node ${node} claims for endpoint ${endpoint}`,
        why: `${why}: the claim is not believed`,
        fix: 'Detach one of the two endpoints. If there is only one, see who may write to etcd.',
      });
      return [];
    }
    return this.options.claims.objects(claimed, claim, this.#lost.leases(claim.network));
  }

  #peer(
    membership: Membership,
    peer: StoredLease | undefined,
    lengths: ReadonlySet<number>,
  ): readonly KernelObject[] | undefined {
    const isSelf =
      peer?.subnet.equals(membership.lease.subnet) === true || peer?.instance === this.options.instance;
    if (peer === undefined || isSelf) return undefined;
    const believed = this.#believe(membership, peer, lengths);
    return believed && compilePeer(membership, believed);
  }

  /** The lease, or its last state that was believed; a problem where it is another one. */
  #believe(
    { network }: Membership,
    lease: StoredLease,
    lengths: ReadonlySet<number>,
  ): StoredLease | undefined {
    const { problems, store } = this.options;
    const subnet = lease.subnet.toString();
    const record = peerRecord(network.name, subnet);
    const key = leaseProblem(network.name, subnet);
    const node = lease.node === undefined ? undefined : store.view.nodes.get(lease.node);
    const before = this.#believed.get(record);
    const check = (it: StoredLease): string | undefined => {
      const isAlone = lengths.size === 1 && lengths.has(it.subnet.length);
      const leases = isAlone ? [] : (store.view.leases.get(network.name)?.values() ?? []);
      const predatesConfig = store.predatesConfig(it);
      const { flannel = true } = this.options;
      return whyDisbelieved(it, { network, leases, node, before, predatesConfig, flannel });
    };
    const why = check(lease);
    if (why === undefined) {
      problems.clear(key);
      this.#believed.set(record, lease);
      return lease;
    }
    const stands = before !== undefined && check(before) === undefined;
    problems.set(key, {
      what: `the subnet lease ${subnet} of ${lease.node === undefined ? lease.publicIp.toString() : `node ${lease.node}`} in network ${network.name}`,
      why: `${why}: it is not believed${stands ? ', and its earlier state counts' : ''}`,
      fix: `If nobody meant it, delete its key in etcd, and see who may write there (${lease.publicIp.toString()}).`,
    });
    return stands ? before : undefined;
  }

  /** Removes the routes to it, and those to addresses that it claims. */
  #drop(network: string, record: RecordKey): void {
    const claimed = this.options.member(network);
    if (claimed === undefined) return;
    const gone: Records = new RecordMap([[record, undefined], ...this.#claims(claimed)]);
    this.options.reconciler
      .set(gone)
      .then(this.options.dropped)
      .catch((error: unknown) => {
        // It is in no record any more: the next comparison removes it.
        this.options.log.warn('what led to a peer is not gone yet', { ...record, error: messageOf(error) });
      });
  }
}

/** A claim that was never granted is no loss. */
const isLost = ({ after, before, lost }: Extract<Change, { kind: 'claim' }>): boolean =>
  lost === true && after === undefined && before?.state === 'granted';
