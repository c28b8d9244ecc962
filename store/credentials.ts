// Tokens and issued certificates in etcd, for controllers alone.
//
// A token's secret is not kept, only its hash. A certificate has a record until it expires, so that it can be refused by its
// serial number.
import * as z from 'zod';

import { ROLES, type Role } from '../core/identity.js';
import { check, ifReadable, integer, parseJsonObject, flag, word } from '../core/parse.js';
import { get, keyAt, present, put, remove, unchanged, update, type Context } from './transaction.js';

export interface TokenRecord {
  readonly id: string;
  /** Of the secret. */
  readonly hash: string;
  readonly role: Role;
  /** Only for the node of this name. */
  readonly node?: string;
  /** How often it can still be used; absent: any number. */
  readonly uses?: number;
  readonly expires: Date;
}

export interface CertificateRecord {
  readonly serial: string;
  readonly role: string;
  /** Of a node, or the network of a flanneld. */
  readonly name?: string;
  /** Names the CA that signed it. */
  readonly authority: string;
  readonly expires: Date;
  readonly refused: boolean;
}

export interface Credentials {
  tokens(): TokenRecord[];
  /** @throws WeftError UNAVAILABLE */
  createToken(token: TokenRecord): Promise<void>;
  /** The token as etcd has it now; undefined if there is none. @throws WeftError UNAVAILABLE */
  token(id: string): Promise<TokenRecord | undefined>;
  /** Takes one use. Returns false if another caller was faster. @throws WeftError UNAVAILABLE */
  useToken(token: TokenRecord): Promise<boolean>;
  /** Returns false if there is none. @throws WeftError UNAVAILABLE */
  deleteToken(id: string): Promise<boolean>;
  /** Certificates that have not expired. */
  certificates(): CertificateRecord[];
  /** @throws WeftError UNAVAILABLE */
  addCertificate(certificate: Omit<CertificateRecord, 'refused'>): Promise<void>;
  /** Whether etcd has a record of this certificate. */
  isKnown(serial: string): boolean;
  isRefused(serial: string): boolean;
  /** Hashes of the CAs that nodes must trust, as the authority has named them last. */
  authorities(): string[];
  /** @throws WeftError UNAVAILABLE */
  setAuthorities(hashes: readonly string[]): Promise<void>;
  /** Refuses all certificates of a node. Returns their serial numbers. @throws WeftError UNAVAILABLE */
  refuse(node: string): Promise<string[]>;
}

/** Seconds for which a token is kept after its end, so that its user is told that it has expired. */
const TOKEN_KEPT = 7 * 24 * 3600;

const date = z.iso.datetime().transform((text) => new Date(text));
const tokenSchema = z.object({
  hash: word,
  role: z.enum(ROLES),
  node: word.optional(),
  uses: integer(0, 2 ** 31).optional(),
  expires: date,
});
const certificateSchema = z.object({
  role: word,
  name: word.optional(),
  authority: word.default(''),
  expires: date,
  refused: flag.default(false),
});

export function credentialsIn(context: Context): Credentials {
  const { client, keys, replica, now } = context;
  const decodeToken = (id: string, text: string): TokenRecord | undefined => {
    const read = ifReadable(() => check(tokenSchema, parseJsonObject(text)));
    if (read === undefined) return undefined;
    const { node, uses, ...token } = read;
    return { id, ...token, ...(node !== undefined && { node }), ...(uses !== undefined && { uses }) };
  };
  const decodeCertificate = (serial: string, text: string): CertificateRecord | undefined => {
    const read = ifReadable(() => check(certificateSchema, parseJsonObject(text)));
    if (read === undefined) return undefined;
    const { name, ...certificate } = read;
    return { serial, ...certificate, ...(name !== undefined && { name }) };
  };
  const encode = ({ hash, role, node, uses, expires }: TokenRecord): string =>
    JSON.stringify({ hash, role, node, uses, expires: expires.toISOString() });
  const secondsUntil = (end: Date): number =>
    Math.max(1, Math.ceil((end.getTime() - now().getTime()) / 1000));
  const all = <T>(start: string, decode: (name: string, text: string) => T | undefined): T[] =>
    [...replica.plainBelow(start)].flatMap(([key, text]) => decode(key.slice(start.length), text) ?? []);

  const certificates = (): CertificateRecord[] =>
    all(keys.certificate(''), decodeCertificate).filter(({ expires }) => expires > now());

  return {
    tokens: () => all(keys.token(''), decodeToken),
    createToken: async (token) => {
      const lease = await client.grant(secondsUntil(token.expires) + TOKEN_KEPT);
      const { header } = await client.txn({ success: [put(keys.token(token.id), encode(token), lease)] });
      await replica.reached(keys.token(token.id), Number(header.revision));
    },
    token: async (id) => {
      const { responses } = await client.txn({ success: [get(keys.token(id))] });
      const found = keyAt(responses, 0);
      return found && decodeToken(id, found.value.toString());
    },
    useToken: async (token) => {
      if (token.uses === undefined) return true;
      const key = keys.token(token.id);
      const { responses } = await client.txn({ success: [get(key)] });
      const found = keyAt(responses, 0);
      const uses = found && decodeToken(token.id, found.value.toString())?.uses;
      if (found === undefined || uses === undefined || uses <= 0) return false;
      const { succeeded } = await client.txn({
        compare: [unchanged(key, found.mod_revision)],
        success: [update(key, encode({ ...token, uses: uses - 1 }))],
      });
      return succeeded;
    },
    deleteToken: async (id) => {
      const { responses, header } = await client.txn({
        success: [get(keys.token(id)), remove(keys.token(id))],
      });
      await replica.reached(keys.token(id), Number(header.revision));
      return keyAt(responses, 0) !== undefined;
    },
    certificates,
    addCertificate: async ({ serial, role, name, authority, expires }) => {
      const lease = await client.grant(secondsUntil(expires));
      const text = JSON.stringify({ role, name, authority, expires: expires.toISOString() });
      const { header } = await client.txn({ success: [put(keys.certificate(serial), text, lease)] });
      await replica.reached(keys.certificate(serial), Number(header.revision));
    },
    authorities: () => {
      const text = replica.text(keys.authorities());
      return (
        (text === undefined ? undefined : ifReadable(() => check(z.array(word), JSON.parse(text)))) ?? []
      );
    },
    setAuthorities: async (hashes) => {
      const { header } = await client.txn({ success: [put(keys.authorities(), JSON.stringify(hashes))] });
      await replica.reached(keys.authorities(), Number(header.revision));
    },
    isKnown: (serial) => replica.modRevision(keys.certificate(serial)) !== undefined,
    isRefused: (serial) => {
      const text = replica.text(keys.certificate(serial));
      return text !== undefined && decodeCertificate(serial, text)?.refused === true;
    },
    refuse: async (node) => {
      const serials: string[] = [];
      for (const one of certificates().filter(({ role, name }) => role === 'node' && name === node)) {
        const text = JSON.stringify({ ...one, serial: undefined, refused: true });
        const { header } = await client.txn({
          compare: [present(keys.certificate(one.serial))],
          success: [update(keys.certificate(one.serial), text)],
        });
        await replica.reached(keys.certificate(one.serial), Number(header.revision));
        serials.push(one.serial);
      }
      return serials;
    },
  };
}
