// Settings that several programs share: both daemons, or the agent and a plugin.
import { apiUrl, choice, DEFAULT_ENGINE, engineUrl, file, keyPrefix, toggle, word } from './kinds.js';
import { optional, setting } from './settings.js';

export const PREFIX = setting(keyPrefix, {
  default: '/weft',
  help: 'root of all keys in etcd',
  group: 'Cluster',
});

export const DOCKER = setting(engineUrl, {
  default: DEFAULT_ENGINE,
  help: 'Docker engine that TARGET docker:NAME refers to',
  group: 'Node',
});

export const GCE_ENDPOINT = optional(apiUrl, {
  help: 'where Google’s Compute API serves',
  shownDefault: 'https://compute.googleapis.com',
  group: 'Cluster',
});

export const ETCD_ACCESS = {
  'etcd-ca': optional(file, { help: 'CA that etcd’s certificate is of', group: 'TLS to etcd' }),
  'etcd-cert': optional(file, { help: 'certificate to show to etcd', group: 'TLS to etcd' }),
  'etcd-key': optional(file, { help: 'its private key', group: 'TLS to etcd' }),
  'etcd-username': optional(word('NAME'), {
    help: 'user of an etcd with authentication',
    group: 'User of etcd',
  }),
  'etcd-password-file': optional(file, {
    help: 'file with the user’s password; a new password counts from the next connection on',
    group: 'User of etcd',
  }),
};

export const GRPC_TLS = {
  'tls-ca': optional(file, {
    help: 'CA of all certificates; a peer without one of it is refused',
    group: 'TLS between weft’s parts',
  }),
  'tls-cert': optional(file, { help: 'certificate of this daemon', group: 'TLS between weft’s parts' }),
  'tls-key': optional(file, { help: 'its private key', group: 'TLS between weft’s parts' }),
};

export const INSECURE = setting(toggle, {
  default: 'false',
  help: 'plain text between weft’s parts; --tls-* and --etcd-* count all the same',
  group: 'TLS between weft’s parts',
});

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
