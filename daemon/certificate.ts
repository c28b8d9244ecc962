// What a certificate says: its holder, its life, its CA.
import { X509Certificate } from 'node:crypto';

import { authorityHash, identityOfSan, type Identity } from '../core/identity.js';

export interface CertificateInfo {
  readonly identity: Identity;
  /** Hexadecimal, upper case, as Node.js shows it for a connection, too. */
  readonly serial: string;
  readonly from: Date;
  readonly to: Date;
}

/** The first certificate of a PEM file. @throws Error where it holds none */
export function certificateInfo(pem: Buffer | string): CertificateInfo {
  const { serialNumber, subjectAltName, validFrom, validTo } = new X509Certificate(pem);
  return {
    identity: identityOfSan(subjectAltName),
    serial: serialNumber,
    from: new Date(validFrom),
    to: new Date(validTo),
  };
}

/** Names the CA of this certificate, as tokens do. @param authority PEM, or parsed */
export function authorityHashOf(authority: Buffer | string | X509Certificate): string {
  const parsed = authority instanceof X509Certificate ? authority : new X509Certificate(authority);
  return authorityHash(parsed.publicKey.export({ format: 'der', type: 'spki' }));
}

/** The certificates of a PEM file, each with a line break at its end. */
export const certificatesOf = (bundle: Buffer | string): string[] =>
  (bundle.toString().match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g) ?? []).map(
    (pem) => `${pem}\n`,
  );

/** Names each CA of a bundle. @throws Error where one cannot be read */
export const authorityHashesOf = (bundle: Buffer | string): string[] =>
  certificatesOf(bundle).map((pem) => authorityHashOf(pem));

/** Milliseconds before its end from which a certificate that was not renewed is a problem. */
const WARN_MS = 7 * 24 * 3_600_000;
/** The same for a short life, as a share of it: renewal comes at 80 % at the latest. */
const WARN_SHARE = 0.15;

/** Whether the certificate ends soon, although it should have been renewed. */
export const endsSoon = ({ from, to }: CertificateInfo, now = Date.now()): boolean =>
  to.getTime() - now < Math.min(WARN_MS, WARN_SHARE * (to.getTime() - from.getTime()));
