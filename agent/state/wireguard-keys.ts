// The node's WireGuard keys, in the state directory.
//
//   wireguard/key            the key that the node uses, 44 characters as flannel's wgkey
//   wireguard/key.next       during a rotation: the key that it is about to use
//   wireguard/key.previous   after it: the key that a device may have still
//
// The first key is flannel's, where this host has one, so that its peers need not change. A private key leaves this file for
// the kernel alone.
import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import fs, { existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';

import { failedPrecondition } from '../../core/errors.js';
import type { Identity } from '../../core/backends/backend.js';
import type { FileOptions } from '../../daemon/record-folder.js';
import { deleteFile, replaceFile } from '../../daemon/state-file.js';

/** flannel: pkg/backend/wireguard, WIREGUARD_KEY_FILE. */
const FLANNEL_KEY = '/run/flannel/wgkey';
/** PKCS #8 of an X25519 key up to its 32 bytes (RFC 8410 §7). */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex');
const KEY = /^[A-Za-z0-9+/]{43}=$/;

interface KeyPair {
  publicKey: string;
  privateKey: Buffer;
}

type Role = 'key' | 'key.next' | 'key.previous';

export class WireguardKeys {
  readonly #folder: string;
  /** Of a dry run that found none: it is written nowhere. */
  #madeUp: KeyPair | undefined;

  constructor(
    stateDir: string,
    private readonly options: FileOptions & { flannelKey?: string } = {},
  ) {
    this.#folder = join(stateDir, 'wireguard');
  }

  /** The public keys; the first use makes a key. @throws WeftError FAILED_PRECONDITION where a file is no key */
  readonly public: Identity['keys'] = {
    current: () => (this.#get('key') ?? this.#madeUp ?? this.#make('key', this.#flannelKey())).publicKey,
    next: () => this.#get('key.next')?.publicKey,
  };

  privateKey(publicKey: string): Buffer | undefined {
    return (['key', 'key.next', 'key.previous'] as const)
      .map((role) => this.#get(role))
      .find((pair) => pair?.publicKey === publicKey)?.privateKey;
  }

  /** Makes the next key, or finds the one of a rotation that was interrupted. */
  prepare(): void {
    if (this.#get('key.next') === undefined) this.#make('key.next');
  }

  /** The next key becomes the current one. */
  promote(): void {
    if (this.#get('key.next') === undefined) return;
    if (existsSync(this.#path('key'))) renameSync(this.#path('key'), this.#path('key.previous'));
    renameSync(this.#path('key.next'), this.#path('key'));
  }

  /** No device has the previous key any more. */
  forgetPrevious(): void {
    deleteFile(this.#path('key.previous'));
  }

  #path(role: Role): string {
    return join(this.#folder, role);
  }

  #get(role: Role): KeyPair | undefined {
    return pairIn(this.#path(role));
  }

  #flannelKey(): KeyPair | undefined {
    return pairIn(this.options.flannelKey ?? process.env['WIREGUARD_KEY_FILE'] ?? FLANNEL_KEY);
  }

  #make(role: Role, pair = newPair()): KeyPair {
    if (this.options.readOnly === true) return (this.#madeUp = pair);
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
    const { calls = fs } = this.options;
    // A node that lost its key with the power would be silent until its peers have the new one.
    replaceFile(this.#path(role), `${pair.privateKey.toString('base64')}\n`, { sync: true, calls });
    return pair;
  }
}

/** @throws WeftError FAILED_PRECONDITION where the file is there and has no key; its content is not shown */
function pairIn(path: string): KeyPair | undefined {
  if (!existsSync(path)) return undefined;
  const text = readFileSync(path, 'utf8').trim();
  if (!KEY.test(text)) {
    throw failedPrecondition(
      `${path} has no WireGuard key: it should be 32 bytes as base64`,
      'Put the key back, or delete the file: then a new key is made, and peers follow.',
    );
  }
  return pairOf(Buffer.from(text, 'base64'));
}

function newPair(): KeyPair {
  const { privateKey } = generateKeyPairSync('x25519');
  return pairOf(privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-32));
}

function pairOf(privateKey: Buffer): KeyPair {
  const key = createPrivateKey({
    key: Buffer.concat([PKCS8_PREFIX, privateKey]),
    format: 'der',
    type: 'pkcs8',
  });
  const spki = createPublicKey(key).export({ format: 'der', type: 'spki' });
  return { privateKey, publicKey: spki.subarray(-32).toString('base64') };
}
