// The files of a certificate authority, in STATE-DIR/ca.
//
// ca.crt has the CA's certificate, and behind it that of the CA which it replaces, as long as that one is trusted: then
// cross.crt has the new CA's key, signed by the former one. ca.key has the key. While one CA replaces another it has both
// keys for a moment, so that a crash leaves the one that ca.crt names first.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

import { failedPrecondition, messageOf } from '../../core/errors.js';
import { certificatesOf } from '../../daemon/certificate.js';
import { replaceFile, stateError } from '../../daemon/state-file.js';
import { createAuthority, crossSign, type Signer } from './x509.js';

export interface AuthorityFiles {
  readonly signer: Signer;
  /** The CA that this one replaces, PEM, and this one's key signed by it. */
  readonly former?: { readonly certificate: string; readonly cross: string };
}

const paths = (folder: string) => ({
  certFile: join(folder, 'ca.crt'),
  keyFile: join(folder, 'ca.key'),
  crossFile: join(folder, 'cross.crt'),
});

/** @throws WeftError FAILED_PRECONDITION */
export async function readOrMakeAuthority(folder: string): Promise<AuthorityFiles> {
  const { certFile, keyFile } = paths(folder);
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
    if (!existsSync(certFile)) {
      const made = await createAuthority();
      // The certificate last: a folder with one is complete.
      replaceFile(keyFile, made.key, { sync: true });
      replaceFile(certFile, made.certificate, { sync: true });
    }
    return read(folder);
  } catch (error) {
    if (existsSync(certFile) && !existsSync(keyFile)) {
      throw failedPrecondition(
        `the certificate authority in ${folder} has no key: ${messageOf(error)}`,
        'Restore ca.key from a copy; without it no certificate can be made.',
      );
    }
    throw stateError(`the certificate authority in ${folder} cannot be made or read`, error);
  }
}

/** Makes a new CA in the place of this one, whose key is gone then. @throws WeftError FAILED_PRECONDITION */
export async function replaceAuthority(folder: string, { signer }: AuthorityFiles): Promise<AuthorityFiles> {
  const { certFile, keyFile, crossFile } = paths(folder);
  try {
    const next = await createAuthority();
    const cross = await crossSign(signer, next.certificate);
    replaceFile(crossFile, cross, { sync: true });
    replaceFile(keyFile, next.key + signer.key, { sync: true });
    replaceFile(certFile, next.certificate + signer.certificate, { sync: true });
    replaceFile(keyFile, next.key, { sync: true });
    return { signer: next, former: { certificate: signer.certificate, cross } };
  } catch (error) {
    throw stateError(`the certificate authority in ${folder} cannot be replaced`, error);
  }
}

function read(folder: string): AuthorityFiles {
  const { certFile, keyFile, crossFile } = paths(folder);
  const [certificate = '', former] = certificatesOf(readFileSync(certFile));
  const parsed = new X509Certificate(certificate);
  const keys = readFileSync(keyFile, 'utf8').match(
    /-----BEGIN PRIVATE KEY-----[^-]+-----END PRIVATE KEY-----/g,
  );
  const key = keys?.find((pem) => parsed.checkPrivateKey(createPrivateKey(pem)));
  if (key === undefined) throw new Error(`${keyFile} is not the key of ${certFile}`);
  const signer = { certificate, key: `${key}\n` };
  if (former === undefined) return { signer };
  return { signer, former: { certificate: former, cross: readFileSync(crossFile, 'utf8') } };
}
