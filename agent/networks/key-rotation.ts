// Rotation of the node's WireGuard key.
//
// A device has one private key, and a peer's prefix belongs to one key, so a pair of nodes changes in one moment. Before that the
// new key is published as the next one: peers take handshakes by it at once, and a change costs them one round trip.
import { setTimeout as pause } from 'node:timers/promises';

import { unavailable } from '../../core/errors.js';
import { isEncrypted } from '../../core/network.js';
import type { Logger } from '../../daemon/log.js';
import type { Store } from '../../store/store.js';
import type { State } from '../state/index.js';
import type { Memberships } from './memberships.js';

export interface KeyRotationOptions {
  state: Pick<State, 'keys'>;
  memberships: Pick<Memberships, 'list' | 'republish'>;
  store: Pick<Store, 'state'>;
  log: Logger;
  /** Sends every peer a packet, so that the handshakes are over before containers need them. */
  greet: () => void;
  /** Milliseconds that peers have to learn the next key. */
  preparedMs?: number;
}

const PREPARED_MS = 2000;

export interface Rotated {
  publicKey: string;
  networks: string[];
}

export class KeyRotation {
  #running: Promise<Rotated> | undefined;

  constructor(private readonly options: KeyRotationOptions) {}

  /** A second caller gets the rotation that is under way. @throws WeftError UNAVAILABLE; it can be repeated */
  rotate(signal: AbortSignal): Promise<Rotated> {
    this.#running ??= this.#rotate(signal).finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #rotate(signal: AbortSignal): Promise<Rotated> {
    const { state, memberships, store, log, greet, preparedMs = PREPARED_MS } = this.options;
    const networks = memberships
      .list()
      .filter(({ network }) => isEncrypted(network))
      .map(({ network }) => network.name);
    if (!store.state.connected) throw notNow('etcd does not answer');
    state.keys.prepare();
    if (networks.length > 0) {
      if (!(await memberships.republish(isEncrypted))) throw notNow('the next key could not be published');
      await pause(preparedMs, undefined, { signal });
    }
    state.keys.promote();
    const isPublished = await memberships.republish(isEncrypted);
    greet();
    // A device that could not change yet has the previous key, until the lease's retry.
    if (isPublished) state.keys.forgetPrevious();
    const publicKey = state.keys.public.current();
    log.info('the key of this node was changed', { publicKey });
    return { publicKey, networks };
  }
}

const notNow = (why: string): Error =>
  unavailable(
    `the key of this node cannot be changed now: ${why}`,
    'The old key stays in use; run it again when etcd answers.',
  );
