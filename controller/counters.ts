// Counters and indexes over the store's view: endpoints of a node, subnets by node.
//
// They follow the store's changes, so an answer costs the same in a large cluster.
import type { Change, Store, StoredLease } from '../store/store.js';

export class Counters {
  /** By node, then by network. */
  readonly #leases = new Map<string, Map<string, StoredLease>>();
  readonly #endpoints = new Map<string, number>();
  readonly #unsubscribe: () => void;

  constructor(store: Store) {
    for (const leases of store.view.leases.values())
      for (const lease of leases.values()) this.#addLease(lease);
    for (const endpoints of store.view.endpoints.values()) {
      for (const { node } of endpoints.values()) this.#count(node, 1);
    }
    this.#unsubscribe = store.subscribe((changes) => {
      for (const change of changes) this.#apply(change);
    });
  }

  endpointsOf(node: string): number {
    return this.#endpoints.get(node) ?? 0;
  }

  /** The subnet that the node has in the network. */
  leaseOf(node: string, network: string): StoredLease | undefined {
    return this.#leases.get(node)?.get(network);
  }

  networksOf(node: string): string[] {
    return [...(this.#leases.get(node)?.keys() ?? [])];
  }

  close(): void {
    this.#unsubscribe();
  }

  #apply(change: Change): void {
    if (change.kind === 'lease') {
      if (change.before !== undefined) this.#dropLease(change.before);
      if (change.after !== undefined) this.#addLease(change.after);
    } else if (change.kind === 'endpoint') {
      if (change.before !== undefined) this.#count(change.before.node, -1);
      if (change.after !== undefined) this.#count(change.after.node, 1);
    }
  }

  #addLease(lease: StoredLease): void {
    if (lease.node === undefined) return;
    const ofNode = this.#leases.get(lease.node) ?? new Map<string, StoredLease>();
    ofNode.set(lease.network, lease);
    this.#leases.set(lease.node, ofNode);
  }

  #dropLease({ node, network, subnet }: StoredLease): void {
    if (node === undefined) return;
    const ofNode = this.#leases.get(node);
    // A node that changes its subnet may have two leases for a moment.
    if (ofNode?.get(network)?.subnet.equals(subnet) !== true) return;
    ofNode.delete(network);
    if (ofNode.size === 0) this.#leases.delete(node);
  }

  #count(node: string, by: number): void {
    const count = this.endpointsOf(node) + by;
    if (count > 0) this.#endpoints.set(node, count);
    else this.#endpoints.delete(node);
  }
}
