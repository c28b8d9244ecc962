// The certificate with which root of the controller's host manages the cluster: ADMIN-DIR/HASH.
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

import { messageOf, WeftError } from '../core/errors.js';
import { IdentityFolder } from '../daemon/identity-folder.js';
import type { Logger } from '../daemon/log.js';
import { keepRenewed } from '../daemon/renewal.js';
import type { Credentials } from '../store/credentials.js';
import type { Authority } from './ca/authority.js';

export interface RootIdentityOptions {
  authority: Authority;
  adminDir: string;
  credentials: Credentials;
  log: Logger;
}

const AGAIN_MS = 1000;

export const rootFolder = (adminDir: string, authority: string): IdentityFolder =>
  new IdentityFolder(join(adminDir, authority), 'client');

/** Gets a new certificate. @throws WeftError UNAVAILABLE without etcd, FAILED_PRECONDITION where it cannot be written */
export async function renewRootIdentity(options: RootIdentityOptions): Promise<void> {
  const { authority, adminDir, credentials } = options;
  const folder = rootFolder(adminDir, authority.hash);
  const issued = await authority.issue({ role: 'admin' }, folder.publicKey());
  await credentials.addCertificate({
    ...{ serial: issued.serial, role: 'admin', expires: issued.to, authority: issued.authority },
  });
  folder.save({ certificate: issued.certificate, authority: authority.bundle });
}

/** Writes it where there is none, and keeps it renewed. Settles when the signal aborts, or where it cannot be written. */
export async function keepRootIdentity(
  options: RootIdentityOptions & { onFailure: (error: unknown) => void },
  signal: AbortSignal,
): Promise<void> {
  const { authority, adminDir, log, onFailure } = options;
  const folder = rootFolder(adminDir, authority.hash);
  const renew = (): Promise<void> => renewRootIdentity(options);
  while (!folder.exists && !signal.aborted) {
    try {
      await renew();
    } catch (error) {
      if (!(error instanceof WeftError && error.code === 'UNAVAILABLE')) {
        return log.warn(
          'the certificate with which root of this host manages the cluster could not be written',
          {
            folder: adminDir,
            error: messageOf(error),
            next: 'Name a directory with --admin-dir, or make a token: it needs a certificate of the role admin.',
          },
        );
      }
      await delay(AGAIN_MS, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }
  if (!signal.aborted) await keepRenewed({ info: () => folder.read().info, renew, onFailure }, signal);
}
