// Settings that both daemons have, and the checks that go with them.
import { invalidArgument } from '../core/errors.js';
import { choice, file, keyPrefix } from './kinds.js';
import { optional, setting, type Origin } from './settings.js';

export const PREFIX = setting(keyPrefix, {
  default: '/weft',
  help: 'root of all keys in etcd',
  group: 'Cluster',
});

export const ETCD_TLS = {
  'etcd-ca': optional(file, { help: 'CA that etcd’s certificate is of', group: 'TLS to etcd' }),
  'etcd-cert': optional(file, { help: 'certificate to show to etcd', group: 'TLS to etcd' }),
  'etcd-key': optional(file, { help: 'its private key', group: 'TLS to etcd' }),
};

export const GRPC_TLS = {
  'tls-ca': optional(file, {
    help: 'CA of all certificates; whoever has none of it is refused',
    group: 'TLS between weft’s parts',
  }),
  'tls-cert': optional(file, { help: 'certificate of this daemon', group: 'TLS between weft’s parts' }),
  'tls-key': optional(file, { help: 'its private key', group: 'TLS between weft’s parts' }),
};

export const LOG = {
  'log-level': setting(choice('debug', 'info', 'warn', 'error'), {
    default: 'info',
    help: 'least level that is logged',
    group: 'Log',
  }),
  'log-format': setting(choice('text', 'json'), {
    default: 'text',
    help: 'for people or for programs',
    group: 'Log',
  }),
};

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
