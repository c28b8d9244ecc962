// A folder with an identity: ca.crt, NAME.crt and NAME.key, for its owner alone.
//
// The key is made once and never leaves the folder. A renewal replaces the certificate alone, by one rename, so that key and
// certificate always belong together.
import { createPrivateKey, createPublicKey, generateKeyPairSync, X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { failedPrecondition, messageOf } from '../core/errors.js';
import { certificateInfo, type CertificateInfo } from './certificate.js';
import { replaceFile, stateError } from './state-file.js';
import type { Tls } from './tls.js';

export class IdentityFolder {
  readonly #ca: string;
  readonly #cert: string;
  readonly #key: string;

  constructor(
    readonly path: string,
    /** Of the files: `node`, `client` or `controller`. */
    name: string,
  ) {
    this.#ca = join(path, 'ca.crt');
    this.#cert = join(path, `${name}.crt`);
    this.#key = join(path, `${name}.key`);
  }

  /** Whether there is a certificate. */
  get exists(): boolean {
    return existsSync(this.#cert);
  }

  get paths(): { ca: string; cert: string; key: string } {
    return { ca: this.#ca, cert: this.#cert, key: this.#key };
  }

  /** Whether or not the certificate is still valid. @throws WeftError FAILED_PRECONDITION for files that cannot be used */
  read(): { tls: Tls; info: CertificateInfo } {
    try {
      const tls = {
        ca: readFileSync(this.#ca),
        cert: readFileSync(this.#cert),
        key: readFileSync(this.#key),
      };
      if (!new X509Certificate(tls.cert).checkPrivateKey(createPrivateKey(tls.key)))
        throw new Error(`${this.#key} is not the key of ${this.#cert}`);
      return { tls, info: certificateInfo(tls.cert) };
    } catch (error) {
      throw failedPrecondition(
        `the identity in ${this.path} cannot be used: ${messageOf(error)}`,
        'Move that folder away, and get a new identity with a token (weft token create).',
        { cause: error },
      );
    }
  }

  /** The public key, PEM; its private one is made where there is none. @throws WeftError FAILED_PRECONDITION */
  publicKey(): string {
    try {
      this.#make();
      if (!existsSync(this.#key)) {
        const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
        replaceFile(this.#key, privateKey.export({ format: 'pem', type: 'pkcs8' }).toString(), {
          sync: true,
        });
      }
      const key = createPublicKey(createPrivateKey(readFileSync(this.#key)));
      return key.export({ format: 'pem', type: 'spki' }).toString();
    } catch (error) {
      throw stateError(`the key ${this.#key} cannot be made or read`, error);
    }
  }

  /** @param authority PEM @throws WeftError FAILED_PRECONDITION */
  save({ certificate, authority }: { certificate: string; authority: string }): void {
    try {
      this.#make();
      replaceFile(this.#ca, authority, { sync: true });
      replaceFile(this.#cert, certificate, { sync: true });
    } catch (error) {
      throw stateError(`the certificate ${this.#cert} cannot be written`, error);
    }
  }

  /** Deletes its files, and the folder if nothing else is in it. Missing ones are no error. */
  remove(): void {
    for (const file of [this.#cert, this.#key, this.#ca]) rmSync(file, { force: true });
    if (existsSync(this.path) && readdirSync(this.path).length === 0) rmdirSync(this.path);
  }

  #make(): void {
    mkdirSync(this.path, { recursive: true, mode: 0o700 });
    chmodSync(this.path, 0o700);
  }
}
