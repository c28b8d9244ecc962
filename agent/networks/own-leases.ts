// This node's own subnet leases: taken, retried, and taken again when lost.
import { ownLease } from '../../core/lost-records.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import { type Attempt, attempt, networkScope, type Problems } from '../health/index.js';
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
  /** A lease is not taken while its network is joined, changed or left, nor after that. */
  inTurn: (network: string, work: (member: Member) => Promise<void>) => Promise<void>;
  /** Writes its network back where etcd has lost it. @returns false: the node has left it */
  restored: (member: Member) => Promise<boolean>;
  /** Compiles the network anew: its subnet may be another one. */
  publish: (network: string) => Promise<unknown>;
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

  /** Takes the member's subnet, or another. A failure becomes a problem and is retried. @returns whether it was taken */
  async take(member: Member): Promise<boolean> {
    const { name } = member.membership.network;
    if (await attempt(this.options, leaseOf(name), () => member.takeLease())) {
      this.#retry.end(name);
      return true;
    }
    // Another node may hold the remembered subnet by now: nothing may be given out of it until there is another.
    const owner = this.options.leases.otherHolder(member.membership.lease);
    if (owner !== undefined) member.dispossess(owner);
    this.#retry.failed(name);
    return false;
  }

  /** Takes the subnet and compiles the network anew. Never rejects: a failure of either becomes a problem and is retried. */
  async reacquire(name: string): Promise<void> {
    const { inTurn, restored, publish } = this.options;
    await inTurn(name, async (member) => {
      // There is no subnet of a network that could not be written back yet, for want of a controller.
      if (!(await restored(member)) || !(await this.take(member))) return;
      const about = { ...leaseOf(name), again: 'It is tried again within a minute.' };
      const work = async (): Promise<void> => void (await publish(name));
      // In each retry, for the subnet is the same one then.
      if (!(await attempt(this.options, about, work))) this.#retry.failed(name);
    });
  }

  /** The lease of this node's subnet has changed in etcd. */
  async changed(member: Member, subnet: string): Promise<void> {
    const { node, instance, store, log } = this.options;
    const { name } = member.membership.network;
    if (this.#releasing.has(name)) return;
    const { view } = store;
    // As it is now: the change may be from before this node took the subnet.
    const after = view.leases.get(name)?.get(subnet);
    const networkRemoved = view.networks.get(name) === undefined && view.removals.has(`network ${name}`);
    const state = ownLease(after, { node, instance }, networkRemoved);
    if (state === 'removed') return;
    if (state === 'present') {
      if (after === undefined || this.options.leases.isAsWritten(after, member.membership.network)) return;
      log.warn('somebody else has changed the subnet lease of this node: writing it back', {
        network: name,
        publicIp: after.publicIp.toString(),
      });
    } else if (after === undefined) {
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
  async release({ membership }: Member, after: () => Promise<void>): Promise<void> {
    const { name } = membership.network;
    this.#releasing.add(name);
    try {
      // First: a lease that stayed would keep the subnet from others until it ends.
      await this.options.store.releaseLease(membership.lease);
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

const leaseOf = (network: string): Attempt => ({
  scope: networkScope(network),
  kind: 'lease',
  what: `the subnet lease of network ${network}`,
});
