// Who a certificate says its holder is, and what a token holds.
//
// The role is the URI of the certificate's SAN: weft://node/NAME, weft://controller, weft://admin, weft://viewer. A URI below
// weft:// that is none of these has no rights; a certificate without one is of a CA of the user's own, and has all rights.
import { createHash, randomBytes } from 'node:crypto';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';

import { invalidArgument } from './errors.js';
import { parseName } from './network.js';

/** The roles that a token can give. */
export const ROLES = ['node', 'controller', 'admin', 'viewer'] as const;
export type Role = (typeof ROLES)[number];

export const isRole = (text: string): text is Role => (ROLES as readonly string[]).includes(text);

/** `unrestricted`: a certificate without a URI of weft's, or a connection in plain text. `none`: no rights at all. */
export type Identity =
  | { readonly role: 'node'; readonly node: string }
  | { readonly role: Exclude<Role, 'node'> | 'unrestricted' | 'none' };

/** Names in the certificates of weft's own servers, in place of addresses. */
export const CONTROLLER_NAME = 'controller.weft';
export const ETCD_NAME = 'etcd.weft';

/** The URI of a role in a certificate. @param network of a flanneld, which has rights in etcd alone */
export function uriOf(role: Role | 'flannel', name?: string): string {
  return name === undefined ? `weft://${role}` : `weft://${role}/${name}`;
}

/** @param san the subject alternative name as Node.js prints it, such as `URI:weft://node/h1, DNS:h1` */
export function identityOfSan(san: string | undefined): Identity {
  // Node.js puts a name with a comma or a quotation mark into quotes: no URI of weft's has one.
  const uris = (san ?? '').split(', ').filter((part) => /^URI:"?weft:/i.test(part));
  const [uri] = uris;
  if (uri === undefined) return { role: 'unrestricted' };
  const [, role = '', name] = /^URI:weft:\/\/([a-z]+)(?:\/([^/]+))?$/.exec(uri) ?? [];
  if (uris.length > 1 || !isRole(role) || (role === 'node') !== (name !== undefined)) return { role: 'none' };
  if (role !== 'node') return { role };
  try {
    return { role, node: parseName(name ?? '') };
  } catch {
    return { role: 'none' };
  }
}

/** Checks the name in a server's certificate: one of these suffices. */
export const servesAs =
  (...names: readonly string[]) =>
  (_asked: string, certificate: PeerCertificate): Error | undefined => {
    const errors = names.map((name) => checkServerIdentity(name, certificate));
    return errors.includes(undefined) ? undefined : errors.at(-1);
  };

/** A token: which CA it is of, and its secret. */
export interface Token {
  /** Hash of the CA's public key. */
  readonly authority: string;
  readonly secret: string;
}

/** Digits of a SHA-256, and of 16 random bytes, in base 36. */
const HASH_DIGITS = 50;
const SECRET_DIGITS = 25;

const base36 = (bytes: Buffer, digits: number): string =>
  BigInt(`0x${bytes.toString('hex')}`)
    .toString(36)
    .padStart(digits, '0');

/** Names a CA by its public key, so that a renewed certificate of the same key keeps the name. @param spki DER */
export const authorityHash = (spki: Buffer): string =>
  base36(createHash('sha256').update(spki).digest(), HASH_DIGITS);

export const newToken = (authority: string): Token => ({
  authority,
  secret: base36(randomBytes(16), SECRET_DIGITS),
});

export const formatToken = ({ authority, secret }: Token): string => `WEFT-1-${authority}-${secret}`;

const TOKEN = new RegExp(`^WEFT-1-([0-9a-z]{${HASH_DIGITS}})-([0-9a-z]{${SECRET_DIGITS}})$`);

/** @throws WeftError INVALID_ARGUMENT that does not repeat the text, which may be a secret */
export function parseToken(text: string, where: string): Token {
  const [, authority, secret] = TOKEN.exec(text.trim()) ?? [];
  if (authority === undefined || secret === undefined)
    throw invalidArgument(
      `${where}: is not a token`,
      'Give it as `weft token create` printed it: WEFT-1-…-…, two parts of 50 and 25 letters and digits.',
    );
  return { authority, secret };
}

/** What is kept of a secret. It has 128 random bits, so that a plain hash cannot be searched. */
export const secretHash = (secret: string): string => createHash('sha256').update(secret).digest('hex');

/** Names a token without its secret: the beginning of the secret's hash. */
export const tokenId = (secret: string): string => secretHash(secret).slice(0, 12);
