// What makes and removes networks, written by a controller for a node.
//
// In an etcd with weft's users a node writes neither configs nor tombstones of networks. Where etcd refuses, the node asks a
// controller, which carries out only what cannot harm a network that is there (docs/decisions/0025; node-requests.ts).
import { WeftError } from '../core/errors.js';

/** A network that etcd has lost, as a node on it knows it. */
export interface LostNetwork {
  name: string;
  /** As it was, with the fields that weft does not know. */
  config: string;
  /** The node's own subnet, written in the same transaction. */
  lease?: { key: string; value: string; ttlSeconds: number };
  /** Revision of a tombstone that is older than the network, and goes. */
  superseded?: string;
}

export interface NetworkWriter {
  /** @throws WeftError ALREADY_EXISTS, FAILED_PRECONDITION, UNAVAILABLE */
  create(name: string, config: string): Promise<void>;
  /** Returns whether it wrote: not where etcd has the network, or its tombstone. @throws WeftError UNAVAILABLE */
  restore(lost: LostNetwork): Promise<boolean>;
  /**
   * Removes a network that a plugin made and no node has a subnet in.
   * @throws WeftError NOT_FOUND, FAILED_PRECONDITION, UNAVAILABLE
   */
  removeUnused(name: string): Promise<void>;
  /** Repeats a removal that etcd has lost. Returns whether it is settled. @throws WeftError PERMISSION_DENIED, UNAVAILABLE */
  removeAgain(name: string, tombstone: string): Promise<boolean>;
}

/** What `write` does, or `ask` where etcd's roles refuse it. */
export async function orAsk<T, U = T>(
  write: () => Promise<T>,
  ask: (() => Promise<U>) | undefined,
): Promise<T | U> {
  try {
    return await write();
  } catch (error) {
    if (ask === undefined || !(error instanceof WeftError) || error.code !== 'PERMISSION_DENIED') throw error;
    return await ask();
  }
}
