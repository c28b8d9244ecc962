// What other nodes are on this one: the records of their leases and of the claims, compiled for the reconciler, as the store
// tells of them. What went although nobody wanted it is mourned, and stays for a while.
import { compilePeer, type Membership } from '../core/compile.js';
import { messageOf } from '../core/errors.js';
import type { KernelObject } from '../core/objects.js';
import type { Logger } from '../daemon/log.js';
import type { Change, Store, StoredLease } from '../store/store.js';
import { claimRecord, type Claimed, type Claims } from './claims.js';
import { Mourning } from './mourning.js';
import type { Reconciler } from './reconciler.js';

export interface PeerRecordsOptions {
  store: Store;
  reconciler: Reconciler;
  claims: Claims;
  log: Logger;
  node: string;
  instance: string;
  /** Whether this node is on the network. */
  isMember: (network: string) => boolean;
}

/** By record; undefined for one that is gone. */
export type Records = Map<string, readonly KernelObject[] | undefined>;

const peerRecord = (network: string, subnet: string): string => `peer ${network} ${subnet}`;

export class PeerRecords {
  readonly #mourning: Mourning;

  constructor(private readonly options: PeerRecordsOptions) {
    this.#mourning = new Mourning(() => options.store.view, options.node);
  }

  /** All of a network. */
  of(membership: Membership): Records {
    const { name } = membership.network;
    const leases = [...(this.options.store.view.leases.get(name)?.values() ?? [])];
    return new Map([
      ...leases.map(
        (lease) => [peerRecord(name, lease.subnet.toString()), this.#peer(membership, lease)] as const,
      ),
      ...this.#claims(membership),
    ]);
  }

  /** What a change comes to; @param batch what the store told with it */
  ofLease(
    { membership }: Claimed,
    change: Extract<Change, { kind: 'lease' }>,
    batch: readonly Change[],
  ): Records {
    const { network, subnet, before, after } = change;
    const record = peerRecord(network, subnet);
    this.#mourning.comfort(record);
    const mournMs = this.#mourning.timeFor(change, batch);
    // Claims lead to the user's VTEP, which the lease names.
    if (mournMs === 0) return new Map([[record, this.#peer(membership, after)], ...this.#claims(membership)]);
    this.#mourning.begin(record, before?.node, mournMs, () => this.#drop(network, record));
    return this.#claims(membership);
  }

  ofClaim(claimed: Claimed, change: Extract<Change, { kind: 'claim' }>): Records {
    const { network, ip, before, after, lost } = change;
    const { claims } = this.options;
    const record = `claim ${network} ${ip}`;
    this.#mourning.comfort(record);
    if (after !== undefined) return new Map([[record, claims.objects(claimed.membership, after)]]);
    // Lost with etcd's past: who uses the address claims it again, and nobody may have it until then.
    if (lost === true) {
      this.#mourning.begin(record, before?.node, Mourning.lostMs, () => {
        claims.ended(claimed, ip);
        this.#drop(network, record);
      });
      return new Map();
    }
    claims.ended(claimed, ip);
    return new Map([[record, undefined]]);
  }

  /** Somebody wanted that this node goes: what was kept of it goes, too. */
  nodeRemoved(node: string): void {
    this.#mourning.nodeRemoved(node);
  }

  stop(): void {
    this.#mourning.stop();
  }

  #claims(membership: Membership): Records {
    const { claims } = this.options;
    return new Map(
      claims
        .of(membership.network.name)
        .map((claim) => [claimRecord(claim), claims.objects(membership, claim)] as const),
    );
  }

  #peer(membership: Membership, peer: StoredLease | undefined): readonly KernelObject[] | undefined {
    const isSelf =
      peer?.subnet.equals(membership.lease.subnet) === true || peer?.instance === this.options.instance;
    return peer === undefined || isSelf ? undefined : compilePeer(membership, peer);
  }

  #drop(network: string, record: string): void {
    if (!this.options.isMember(network)) return;
    this.options.reconciler.set(new Map([[record, undefined]])).catch((error: unknown) => {
      // In no record any more, it goes with the next comparison.
      this.options.log.warn('what led to a peer is not gone yet', { record, error: messageOf(error) });
    });
  }
}
