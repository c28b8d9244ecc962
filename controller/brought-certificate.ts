// The certificate that a controller was given (--tls-*), and its renewal where --authority names the controller that signs it.
//
// The files of the settings may not be this program's to write. A renewed certificate is in STATE-DIR/identity, with a key
// that was made there; of the two the one that ends later counts.
import { setTimeout as delay } from 'node:timers/promises';
import { join } from 'node:path';

import { messageOf, WeftError } from '../core/errors.js';
import { authorityHashesOf, certificateInfo, type CertificateInfo } from '../daemon/certificate.js';
import { renewWith } from '../daemon/enrolment.js';
import { IdentityFolder } from '../daemon/identity-folder.js';
import type { Logger } from '../daemon/log.js';
import { keepRenewed } from '../daemon/renewal.js';
import { readTls, type Tls } from '../daemon/tls.js';
import type { ControllerSettings } from './settings.js';

const LOOK_MS = 1000;

export interface Following {
  /** Hashes of the CAs that members of the cluster must trust. */
  authorities: () => readonly string[];
  /** Called with each new certificate. */
  replace: () => void;
  log: Logger;
}

export class BroughtCertificate {
  #current: Tls;

  private constructor(
    given: Tls,
    private readonly folder: IdentityFolder,
    /** HOST:PORT. */
    private readonly authority: string | undefined,
  ) {
    this.#current = given;
  }

  /** Undefined where no certificate was given. @throws WeftError INVALID_ARGUMENT, FAILED_PRECONDITION */
  static of(settings: ControllerSettings): BroughtCertificate | undefined {
    const authority = settings.authority?.text;
    const folder = new IdentityFolder(join(settings.stateDir, 'identity'), 'controller');
    const renewed = authority !== undefined && folder.exists ? folder.read() : undefined;
    if (renewed === undefined || renewed.info.to < new Date()) {
      const given = readTls(settings);
      return given && new BroughtCertificate(given, folder, authority);
    }
    // What was given has ended by now, or is of somebody who has joined again.
    const given = ifUsable(() => readTls(settings));
    const isLater = given !== undefined && certificateInfo(given.cert).to > renewed.info.to;
    return new BroughtCertificate(isLater ? given : renewed.tls, folder, authority);
  }

  /** One of weft's for a further controller shows its CA, as the authority's own does. */
  get tls(): Tls {
    const { cert, ca } = this.#current;
    if (this.info.identity.role !== 'controller') return this.#current;
    return { ...this.#current, cert: Buffer.concat([cert, ca]) };
  }

  get info(): CertificateInfo {
    return certificateInfo(this.#current.cert);
  }

  get isRenewed(): boolean {
    return this.authority !== undefined;
  }

  /** Keeps it renewed, and of the CA that members of the cluster must trust. Settles when the signal aborts. */
  async follow({ authorities, replace, log }: Following, signal: AbortSignal): Promise<void> {
    const { authority } = this;
    if (authority === undefined) return;
    const renew = async (): Promise<void> => {
      await renewWith(authority, this.#current, this.folder);
      this.#current = this.folder.read().tls;
      log.info('renewed the certificate', { serial: this.info.serial, until: this.info.to.toISOString() });
      replace();
    };
    const onFailure = (error: unknown): void =>
      log.warn('the certificate of this controller could not be renewed', { error: messageOf(error) });
    const trust = async (): Promise<void> => {
      let asked = '';
      while (!signal.aborted) {
        const hashes = authorities().toSorted().join();
        const isTrusted = hashes === '' || authorityHashesOf(this.#current.ca).toSorted().join() === hashes;
        // Once for each change, as an agent does.
        if (!isTrusted && asked !== hashes) await renew().then(() => void (asked = hashes), onFailure);
        await delay(LOOK_MS, undefined, { signal, ref: false }).catch(() => undefined);
      }
    };
    await Promise.all([keepRenewed({ info: () => this.info, renew, onFailure }, signal), trust()]);
  }
}

function ifUsable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof WeftError) return undefined;
    throw error;
  }
}
