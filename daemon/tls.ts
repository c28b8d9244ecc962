// TLS certificates and keys from files, read and checked once at the start.
//
// An error names the flag and the file.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { readFileSync } from 'node:fs';

import { invalidArgument, messageOf } from '../core/errors.js';
import { errnoOf } from './errno.js';
import type { Origin } from './settings.js';

/** PEM, as the files have it. Always mutual. */
export interface Tls {
  readonly ca: Buffer;
  readonly cert: Buffer;
  readonly key: Buffer;
}

/** PEM, for a client. Certificate and key come together. */
export interface ClientTls {
  readonly ca: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
  /** PEM of a CA whose key must have signed the server's certificate, beside what verifies it by `ca`. */
  readonly signer?: string;
}

export interface TlsPaths {
  readonly tlsCa: string | undefined;
  readonly tlsCert: string | undefined;
  readonly tlsKey: string | undefined;
}

export interface EtcdTlsPaths {
  readonly etcdCa: string | undefined;
  readonly etcdCert: string | undefined;
  readonly etcdKey: string | undefined;
}

/** @throws WeftError INVALID_ARGUMENT unless TLS is set whole or not at all */
export function checkTls(values: TlsPaths, origin: Origin): void {
  const all = { 'tls-ca': values.tlsCa, 'tls-cert': values.tlsCert, 'tls-key': values.tlsKey };
  const present = Object.entries(all).find(([, path]) => path !== undefined)?.[0];
  const missing = Object.entries(all).find(([, path]) => path === undefined)?.[0];
  if (present === undefined || missing === undefined) return;
  throw invalidArgument(
    `${origin(present) ?? `--${present}`}: TLS is always mutual, and --${missing} is not set`,
    'Set --tls-ca, --tls-cert and --tls-key together, or none of them.',
  );
}

/** @throws WeftError INVALID_ARGUMENT where URLs and certificates do not go together */
export function checkEtcdTls(
  values: EtcdTlsPaths,
  urls: readonly string[],
  origin: Origin,
  urlSetting: 'etcd' | 'etcd-listen' = 'etcd',
): void {
  const { etcdCa, etcdCert, etcdKey } = values;
  if ((etcdCert === undefined) !== (etcdKey === undefined)) {
    const [present, missing] = etcdCert === undefined ? ['etcd-key', 'etcd-cert'] : ['etcd-cert', 'etcd-key'];
    throw invalidArgument(
      `${origin(present) ?? `--${present}`}: needs --${missing} beside it`,
      'Set --etcd-cert and --etcd-key together.',
    );
  }
  const secure = urls.filter((url) => url.startsWith('https:'));
  if (secure.length > 0 && secure.length < urls.length) {
    throw invalidArgument(
      `${origin(urlSetting) ?? `--${urlSetting}`}: some URLs are https and some are http (${urls.join(', ')})`,
      'Use https for all of them, or http.',
    );
  }
  const [url] = urls;
  if (secure.length > 0 && etcdCa === undefined) {
    throw invalidArgument(
      `${origin(urlSetting) ?? `--${urlSetting}`}: ${url} needs --etcd-ca beside it`,
      'Name the file with the CA that etcd’s certificate is of.',
    );
  }
  const path = Object.entries({ 'etcd-ca': etcdCa, 'etcd-cert': etcdCert }).find(
    ([, value]) => value !== undefined,
  );
  if (path !== undefined && secure.length === 0) {
    throw invalidArgument(
      `${origin(path[0]) ?? `--${path[0]}`}: is for TLS, but ${url ?? 'etcd'} is without`,
      `Write --${urlSetting} ${(url ?? 'http://…').replace('http:', 'https:')}.`,
    );
  }
}

/** @throws WeftError INVALID_ARGUMENT for a part that is missing, unreadable or not what it should be */
export function readTls(paths: TlsPaths): Tls | undefined {
  const { tlsCa, tlsCert, tlsKey } = paths;
  if (tlsCa === undefined && tlsCert === undefined && tlsKey === undefined) return undefined;
  if (tlsCa === undefined || tlsCert === undefined || tlsKey === undefined) {
    throw invalidArgument(
      'TLS between weft’s parts is always mutual, and only some of --tls-ca, --tls-cert and --tls-key are set',
      'Set all three, or none of them.',
    );
  }
  const { cert, key } = readPair('--tls-cert', tlsCert, '--tls-key', tlsKey);
  return { ca: readCertificate('--tls-ca', tlsCa), cert, key };
}

/** @throws WeftError INVALID_ARGUMENT as `readTls` does */
export function readEtcdTls({ etcdCa, etcdCert, etcdKey }: EtcdTlsPaths): ClientTls | undefined {
  if (etcdCa === undefined) return undefined;
  const ca = readCertificate('--etcd-ca', etcdCa);
  if (etcdCert === undefined || etcdKey === undefined) return { ca };
  return { ca, ...readPair('--etcd-cert', etcdCert, '--etcd-key', etcdKey) };
}

function readPair(
  certFlag: string,
  certPath: string,
  keyFlag: string,
  keyPath: string,
): { cert: Buffer; key: Buffer } {
  const cert = readCertificate(certFlag, certPath);
  const key = readFile(keyFlag, keyPath);
  const matches = parse(keyFlag, keyPath, 'a private key', () =>
    new X509Certificate(cert).checkPrivateKey(createPrivateKey(key)),
  );
  if (!matches)
    throw invalidArgument(
      `${keyFlag}: ${keyPath} is not the key of ${certPath}`,
      'Name the two files that belong together.',
    );
  return { cert, key };
}

function readCertificate(flag: string, path: string): Buffer {
  const content = readFile(flag, path);
  const certificate = parse(flag, path, 'a certificate', () => new X509Certificate(content));
  if (Date.parse(certificate.validTo) < Date.now()) {
    throw invalidArgument(
      `${flag}: the certificate in ${path} was valid until ${certificate.validTo}`,
      'Renew it.',
    );
  }
  return content;
}

function readFile(flag: string, path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw invalidArgument(`${flag}: ${path}: ${whyUnreadable(error)}`, 'Name a PEM file that can be read.', {
      cause: error,
    });
  }
}

export const whyUnreadable = (error: unknown): string =>
  errnoOf(error) === 'ENOENT' ? 'there is no such file' : messageOf(error);

function parse<T>(flag: string, path: string, what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    throw invalidArgument(`${flag}: ${path} is not ${what}: ${messageOf(error)}`, 'Name a PEM file.', {
      cause: error,
    });
  }
}
