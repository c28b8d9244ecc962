// Makes certificates: the one place that loads the X.509 library, and only when a certificate is made.
import { createPrivateKey, createPublicKey, randomBytes, webcrypto } from 'node:crypto';

import { invalidArgument, messageOf } from '../../core/errors.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

/** RFC 5280 §4.2.1.12. */
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

const YEARS_MS = 365.25 * 24 * 3_600_000;
const AUTHORITY_LIFE_MS = 20 * YEARS_MS;

/** A clock may be wrong by this much; a short life has a share of it. */
const BACKDATED_MS = 3_600_000;

export interface NewCertificate {
  /** The user of etcd. */
  commonName: string;
  uri: string;
  /** For a server. */
  names?: { dns: readonly string[]; ips: readonly string[] };
  /** PEM, SubjectPublicKeyInfo. */
  publicKey: string;
  lifeMs: number;
}

export interface Signer {
  /** PEM. */
  certificate: string;
  /** PEM, PKCS #8. */
  key: string;
}

async function library() {
  // Its dependency injection wants this first.
  await import('reflect-metadata');
  return await import('@peculiar/x509');
}

/** 127 random bits: positive, and never zero (RFC 5280 §4.1.2.2). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString('hex');
}

/** A key and a certificate of its own, for 20 years. */
export async function createAuthority(): Promise<Signer> {
  const x509 = await library();
  const keys = await webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    {
      serialNumber: serialNumber(),
      // A name of its own, by which programs tell it from the CA that it replaces.
      name: [{ CN: [`weft CA ${randomBytes(4).toString('hex')}`] }],
      notBefore: new Date(Date.now() - BACKDATED_MS),
      notAfter: new Date(Date.now() + AUTHORITY_LIFE_MS),
      signingAlgorithm: ALGORITHM,
      keys,
      // One CA below it: that which replaces it.
      extensions: await authorityExtensions(x509, keys.publicKey, 1),
    },
    webcrypto,
  );
  const pkcs8 = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey));
  const key = createPrivateKey({ key: pkcs8, format: 'der', type: 'pkcs8' });
  return {
    certificate: `${certificate.toString('pem')}\n`,
    key: key.export({ format: 'pem', type: 'pkcs8' }).toString(),
  };
}

/** A certificate for the next CA's key, signed by the former one: who trusts the former one trusts the next. @returns PEM */
export async function crossSign(former: Signer, next: string): Promise<string> {
  const x509 = await library();
  const [issuer, subject] = [new x509.X509Certificate(former.certificate), new x509.X509Certificate(next)];
  const spki = createPublicKey(next).export({ format: 'der', type: 'spki' });
  const publicKey = await webcrypto.subtle.importKey('spki', spki, ALGORITHM, true, ['verify']);
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: subject.subjectName.toJSON(),
      issuer: issuer.subjectName.toJSON(),
      notBefore: subject.notBefore,
      notAfter: issuer.notAfter,
      signingAlgorithm: ALGORITHM,
      publicKey,
      signingKey: await signingKeyOf(former),
      extensions: [
        ...(await authorityExtensions(x509, publicKey, 0)),
        await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return `${certificate.toString('pem')}\n`;
}

type Library = Awaited<ReturnType<typeof library>>;

async function authorityExtensions(
  x509: Library,
  publicKey: webcrypto.CryptoKey,
  authoritiesBelow: number,
): Promise<InstanceType<Library['Extension']>[]> {
  return [
    new x509.BasicConstraintsExtension(true, authoritiesBelow, true),
    new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
    await x509.SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto),
  ];
}

function signingKeyOf({ key }: Signer): Promise<webcrypto.CryptoKey> {
  const der = createPrivateKey(key).export({ format: 'der', type: 'pkcs8' });
  return webcrypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign']);
}

/** @returns PEM. @throws WeftError INVALID_ARGUMENT for a key that is not EC P-256 */
export async function signCertificate(signer: Signer, wanted: NewCertificate): Promise<string> {
  const spki = publicKeyOf(wanted.publicKey);
  const x509 = await library();
  const { subtle } = webcrypto;
  const publicKey = await subtle.importKey('spki', spki, ALGORITHM, true, ['verify']);
  const signingKey = await signingKeyOf(signer);
  const authority = new x509.X509Certificate(signer.certificate);
  const { dns = [], ips = [] } = wanted.names ?? {};
  const usages = wanted.names === undefined ? [CLIENT_AUTH] : [SERVER_AUTH, CLIENT_AUTH];
  const now = Date.now();
  const certificate = await x509.X509CertificateGenerator.create(
    {
      serialNumber: serialNumber(),
      subject: [{ CN: [wanted.commonName] }],
      issuer: authority.subjectName.toJSON(),
      notBefore: new Date(now - Math.min(BACKDATED_MS, wanted.lifeMs / 10)),
      notAfter: new Date(Math.min(now + wanted.lifeMs, authority.notAfter.getTime())),
      signingAlgorithm: ALGORITHM,
      publicKey,
      signingKey,
      extensions: [
        new x509.BasicConstraintsExtension(false, undefined, true),
        new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
        new x509.ExtendedKeyUsageExtension(usages),
        new x509.SubjectAlternativeNameExtension([
          { type: 'url', value: wanted.uri },
          ...dns.map((value) => ({ type: 'dns' as const, value })),
          ...ips.map((value) => ({ type: 'ip' as const, value })),
        ]),
        await x509.AuthorityKeyIdentifierExtension.create(authority.publicKey, false, webcrypto),
        await x509.SubjectKeyIdentifierExtension.create(publicKey, false, webcrypto),
      ],
    },
    webcrypto,
  );
  return `${certificate.toString('pem')}\n`;
}

function publicKeyOf(pem: string): Buffer {
  try {
    const key = createPublicKey({ key: pem, format: 'pem', type: 'spki' });
    if (key.asymmetricKeyDetails?.namedCurve !== 'prime256v1') throw new Error('it is no key of EC P-256');
    return key.export({ format: 'der', type: 'spki' });
  } catch (error) {
    throw invalidArgument(
      `public_key: cannot be used: ${messageOf(error)}`,
      'Send an EC P-256 key as SubjectPublicKeyInfo in PEM.',
      { cause: error },
    );
  }
}
