// This node's own subnet leases: taken, retried, and taken again when lost.
import type { KeyedMutex } from '../../core/keyed-mutex.js';
import { ownLease } from '../../core/lost-records.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import { attempt, networkScope, type Problems } from '../health/index.js';
import { LeaseRetry } from './lease-retry.js';
import type { Member } from './member.js';
import type { SubnetLeases } from './subnet-leases.js';

export interface OwnLeasesOptions {
  store: Pick<Store, 'view' | 'releaseLease'>;
  log: Logger;
  problems: Problems;
  node: string;
  instance: string;
  leases: SubnetLeases;
  members: ReadonlyMap<string, Member>;
  /** By network: a lease is not taken while its network is joined, changed or left. */
  locks: KeyedMutex;
  /** The subnet is another one: compiles the network anew. */
  moved: (network: string) => Promise<unknown>;
  /** Milliseconds to the first retry. */
  leaseRetryMs?: number;
}

export class OwnLeases {
  readonly #retry: LeaseRetry;
  /** Networks whose lease is being released: its end is no loss. */
  readonly #releasing = new Set<string>();

  constructor(private readonly options: OwnLeasesOptions) {
    this.#retry = new LeaseRetry((network) => void this.reacquire(network), options.leaseRetryMs);
  }

  /** Takes the member's subnet, or another. A failure becomes a problem and is retried. */
  async take(member: Member): Promise<void> {
    const { name } = member.membership.network;
    const what = `the subnet lease of network ${name}`;
    const about = { scope: networkScope(name), kind: 'lease', what } as const;
    if (await attempt(this.options, about, () => member.takeLease())) {
      this.#retry.end(name);
      return;
    }
    // Another node may hold the remembered subnet by now: nothing may be given out of it until there is another.
    const owner = this.options.leases.otherHolder(member.membership.lease);
    if (owner !== undefined) member.dispossess(owner);
    this.#retry.failed(name);
  }

  async reacquire(name: string): Promise<void> {
    const { members, locks, moved } = this.options;
    const member = members.get(name);
    await locks.run(name, async () => {
      if (member === undefined || members.get(name) !== member) return;
      const before = member.membership.lease.subnet;
      await this.take(member);
      if (!member.membership.lease.subnet.equals(before)) await moved(name);
    });
  }

  /** The lease of this node's subnet has changed in etcd. */
  async changed(name: string, subnet: string): Promise<void> {
    const { members, node, instance, store, log } = this.options;
    const member = members.get(name);
    if (member === undefined || this.#releasing.has(name)) return;
    const { view } = store;
    // As it is now: the change may be from before this node took the subnet.
    const after = view.leases.get(name)?.get(subnet);
    const networkRemoved = view.networks.get(name) === undefined && view.removals.has(`network ${name}`);
    const state = ownLease(after, { node, instance }, networkRemoved);
    if (state === 'present' || state === 'removed') return;
    if (after === undefined) {
      log.warn('the subnet lease of this node was lost from etcd: taking it again', { network: name });
    } else {
      // The store grants a subnet only to the node with the right to it: what this node took in the gap is given up.
      const owner = after.node ?? after.publicIp.toString();
      member.dispossess(owner);
      log.warn('another node holds the subnet of this node now', {
        network: name,
        subnet: after.subnet.toString(),
        owner,
      });
    }
    await this.reacquire(name);
  }

  /** Releases the lease, then does `after`. @throws WeftError UNAVAILABLE; then it is held as before */
  async release(name: string, after: () => Promise<void>): Promise<void> {
    const lease = this.options.members.get(name)?.membership.lease;
    if (lease === undefined) return;
    this.#releasing.add(name);
    try {
      // First: a lease that stayed would keep the subnet from others until it ends.
      await this.options.store.releaseLease(lease);
      await after();
    } finally {
      this.#releasing.delete(name);
    }
  }

  /** Whether a subnet is still to be taken. */
  isDue(name: string): boolean {
    return this.#retry.isDue(name);
  }

  /** The node has left the network. */
  left(name: string): void {
    this.#retry.end(name);
  }

  stop(): void {
    this.#retry.stop();
  }
}
