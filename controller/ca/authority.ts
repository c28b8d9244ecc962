// The certificate authority of a controller: its key, its own certificate, and those that it signs.
//
// Its folder, STATE-DIR/ca, is for the controller alone: ca.crt and ca.key, controller.crt and controller.key. One CA can
// replace another: until the former one is dropped both are trusted, and whatever the new one signs goes with its key
// signed by the former one, so that who knows the former one alone accepts it, too.
import { hkdfSync, X509Certificate } from 'node:crypto';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { CONTROLLER_NAME, ETCD_NAME, uriOf, type Role } from '../../core/identity.js';
import {
  authorityHashesOf,
  authorityHashOf,
  certificateInfo,
  type CertificateInfo,
} from '../../daemon/certificate.js';
import { IdentityFolder } from '../../daemon/identity-folder.js';
import type { Tls } from '../../daemon/tls.js';
import { readOrMakeAuthority, replaceAuthority, type AuthorityFiles } from './authority-files.js';
import { signCertificate } from './x509.js';

/** Who a certificate is for. `superuser`: an administrator who may also use etcd. */
export type Subject =
  | { readonly role: 'node'; readonly name: string }
  | { readonly role: 'flannel'; readonly name: string }
  | { readonly role: Exclude<Role, 'node'> | 'superuser' };

export interface Issued extends CertificateInfo {
  /** PEM; behind it what leads from a former CA to it. */
  readonly certificate: string;
  /** Names the CA that signed it. */
  readonly authority: string;
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
  readonly #folder: string;
  readonly #marker: string;
  #files: AuthorityFiles;

  private constructor(
    files: AuthorityFiles,
    private readonly options: AuthorityOptions,
  ) {
    this.#files = files;
    this.#folder = folderOf(options);
    this.own = new IdentityFolder(this.#folder, 'controller');
    this.#marker = join(this.#folder, 'serves-plain-text');
  }

  /** Reads it, or makes a new one. @throws WeftError FAILED_PRECONDITION */
  static async open(options: AuthorityOptions): Promise<Authority> {
    const authority = new Authority(await readOrMakeAuthority(folderOf(options)), options);
    if (authority.#needsOwn()) await authority.renewOwn();
    return authority;
  }

  /** PEM. */
  get certificate(): string {
    return this.#files.signer.certificate;
  }

  get hash(): string {
    return authorityHashOf(this.certificate);
  }

  get expires(): Date {
    return new Date(new X509Certificate(this.certificate).validTo);
  }

  /** Names the CA that this one replaces, as long as that one is trusted, too. */
  get former(): string | undefined {
    const { former } = this.#files;
    return former && authorityHashOf(former.certificate);
  }

  /** What members of the cluster trust: this CA, and behind it the former one. PEM. */
  get bundle(): string {
    return this.certificate + (this.#files.former?.certificate ?? '');
  }

  /** Names the CAs of the bundle. */
  get hashes(): string[] {
    return authorityHashesOf(this.bundle);
  }

  /** For servers and clients; with the CA behind it, so that who has a token sees which CA it is. */
  tls(): Tls {
    const { tls } = this.own.read();
    const { signer, former } = this.#files;
    const root = (former ?? signer).certificate;
    return { ...tls, cert: Buffer.concat([tls.cert, Buffer.from(root)]) };
  }

  /** A secret of this controller's alone, which outlives its certificates and its CA. */
  sealingKey(): Buffer {
    const { key } = this.own.read().tls;
    return Buffer.from(hkdfSync('sha256', key, '', 'weft: removals of networks', 32));
  }

  /** Whether plain text is still served beside TLS, also after a restart. */
  get servesPlainText(): boolean {
    return existsSync(this.#marker);
  }

  set servesPlainText(serves: boolean) {
    if (serves) writeFileSync(this.#marker, '', { mode: 0o600 });
    else rmSync(this.#marker, { force: true });
  }

  /** Makes a new CA that replaces this one. Nothing, where that is under way. @throws WeftError FAILED_PRECONDITION */
  async replace(): Promise<void> {
    if (this.#files.former !== undefined) return;
    this.#files = await replaceAuthority(this.#folder, this.#files);
    await this.renewOwn();
  }

  /** Ends the trust in the CA that was replaced. @throws WeftError FAILED_PRECONDITION */
  async dropFormer(): Promise<void> {
    this.#files = { signer: this.#files.signer };
    await this.renewOwn();
  }

  async renewOwn(): Promise<void> {
    const publicKey = this.own.publicKey();
    const { certificate } = await this.issue({ role: 'controller' }, publicKey);
    this.own.save({ certificate, authority: this.bundle });
  }

  /** @param publicKey PEM @throws WeftError INVALID_ARGUMENT for a key that is not EC P-256 */
  async issue(subject: Subject, publicKey: string): Promise<Issued> {
    const { lifeMs, ips } = this.options;
    const { signer, former } = this.#files;
    const certificate = await signCertificate(signer, {
      commonName: commonNameOf(subject),
      uri: uriOfSubject(subject),
      publicKey,
      lifeMs,
      ...(subject.role === 'controller' && { names: { dns: [CONTROLLER_NAME, ETCD_NAME], ips } }),
    });
    const authority = authorityHashOf(signer.certificate);
    return { certificate: certificate + (former?.cross ?? ''), authority, ...certificateInfo(certificate) };
  }

  #needsOwn(): boolean {
    if (!this.own.exists) return true;
    const { tls, info } = this.own.read();
    // A crash may have come between a new CA and its first certificate.
    const isSigned = new X509Certificate(tls.cert).verify(new X509Certificate(this.certificate).publicKey);
    return !isSigned || isDue(info);
  }
}

const folderOf = ({ stateDir }: AuthorityOptions): string => join(stateDir, 'ca');

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
