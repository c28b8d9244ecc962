// The certificate authority of a controller: its key, its own certificate, and those that it signs.
//
// Its folder, STATE-DIR/ca, is for the controller alone: ca.crt and ca.key, controller.crt and controller.key.
import { X509Certificate } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { failedPrecondition, messageOf } from '../../core/errors.js';
import { CONTROLLER_NAME, ETCD_NAME, uriOf, type Role } from '../../core/identity.js';
import { authorityHashOf, certificateInfo, type CertificateInfo } from '../../daemon/certificate.js';
import { IdentityFolder } from '../../daemon/identity-folder.js';
import { replaceFile, stateError } from '../../daemon/state-file.js';
import type { Tls } from '../../daemon/tls.js';
import { createAuthority, signCertificate, type Signer } from './x509.js';

/** Who a certificate is for. `superuser`: an administrator who may also use etcd. */
export type Subject =
  | { readonly role: 'node'; readonly name: string }
  | { readonly role: 'flannel'; readonly name: string }
  | { readonly role: Exclude<Role, 'node'> | 'superuser' };

export interface Issued extends CertificateInfo {
  /** PEM. */
  readonly certificate: string;
}

export interface AuthorityOptions {
  stateDir: string;
  /** Of the certificates that it signs. */
  lifeMs: number;
  /** Addresses of this controller, for programs that check the address alone. */
  ips: readonly string[];
}

/** etcd's superuser: no node may have this name. */
export const SUPERUSER = 'root';

/** A controller that has been an authority. */
export const hasAuthority = (stateDir: string): boolean => existsSync(join(stateDir, 'ca', 'ca.crt'));

export class Authority {
  /** The controller's own certificate, which its server, its clients and its etcd use. */
  readonly own: IdentityFolder;
  readonly hash: string;
  readonly expires: Date;
  readonly #marker: string;

  private constructor(
    private readonly signer: Signer,
    private readonly options: AuthorityOptions,
  ) {
    const folder = join(options.stateDir, 'ca');
    this.own = new IdentityFolder(folder, 'controller');
    this.hash = authorityHashOf(signer.certificate);
    this.expires = new Date(new X509Certificate(signer.certificate).validTo);
    this.#marker = join(folder, 'serves-plain-text');
  }

  /** Reads it, or makes a new one. @throws WeftError FAILED_PRECONDITION */
  static async open(options: AuthorityOptions): Promise<Authority> {
    const folder = join(options.stateDir, 'ca');
    const authority = new Authority(await readOrMake(folder), options);
    if (!authority.own.exists || isDue(authority.own.read().info)) await authority.renewOwn();
    return authority;
  }

  /** PEM. */
  get certificate(): string {
    return this.signer.certificate;
  }

  /** For servers and clients; with the CA behind it, so that who has a token sees which CA it is. */
  tls(): Tls {
    const { tls } = this.own.read();
    return { ...tls, cert: Buffer.concat([tls.cert, tls.ca]) };
  }

  /** Whether plain text is still served beside TLS, also after a restart. */
  get servesPlainText(): boolean {
    return existsSync(this.#marker);
  }

  set servesPlainText(serves: boolean) {
    if (serves) writeFileSync(this.#marker, '', { mode: 0o600 });
    else rmSync(this.#marker, { force: true });
  }

  async renewOwn(): Promise<void> {
    const publicKey = this.own.publicKey();
    const { certificate } = await this.issue({ role: 'controller' }, publicKey);
    this.own.save({ certificate, authority: this.certificate });
  }

  /** @param publicKey PEM @throws WeftError INVALID_ARGUMENT for a key that is not EC P-256 */
  async issue(subject: Subject, publicKey: string): Promise<Issued> {
    const { lifeMs, ips } = this.options;
    const certificate = await signCertificate(this.signer, {
      commonName: commonNameOf(subject),
      uri: uriOfSubject(subject),
      publicKey,
      lifeMs,
      ...(subject.role === 'controller' && { names: { dns: [CONTROLLER_NAME, ETCD_NAME], ips } }),
    });
    return { certificate, ...certificateInfo(certificate) };
  }
}

/** Half of its life is over. */
const isDue = ({ from, to }: CertificateInfo): boolean => Date.now() > (from.getTime() + to.getTime()) / 2;

const uriOfSubject = (subject: Subject): string => {
  if (subject.role === 'superuser') return uriOf('admin');
  return subject.role === 'node' || subject.role === 'flannel'
    ? uriOf(subject.role, subject.name)
    : uriOf(subject.role);
};

/** The user of etcd. A node's is its name, which has no colon: the others cannot be taken for one. */
function commonNameOf(subject: Subject): string {
  switch (subject.role) {
    case 'node':
      return subject.name;
    case 'flannel':
      return `flannel:${subject.name}`;
    case 'controller':
    case 'superuser':
      return SUPERUSER;
    default:
      return `weft:${subject.role}`;
  }
}

async function readOrMake(folder: string): Promise<Signer> {
  const [certFile, keyFile] = [join(folder, 'ca.crt'), join(folder, 'ca.key')];
  try {
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    chmodSync(folder, 0o700);
    if (!existsSync(certFile)) {
      const made = await createAuthority('weft CA');
      // The certificate last: a folder with one is complete.
      replaceFile(keyFile, made.key, { sync: true });
      replaceFile(certFile, made.certificate, { sync: true });
    }
    return { certificate: readFileSync(certFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
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
