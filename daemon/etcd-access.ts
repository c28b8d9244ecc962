// How a daemon proves itself to etcd: TLS, and a user with a password, both of which may be absent.
import { readFileSync } from 'node:fs';

import { invalidArgument } from '../core/errors.js';
import type { Origin } from './settings.js';
import { checkEtcdTls, type ClientTls, type EtcdTlsPaths, readEtcdTls, whyUnreadable } from './tls.js';

export interface EtcdUserSettings {
  readonly etcdUsername: string | undefined;
  readonly etcdPasswordFile: string | undefined;
}

export interface EtcdAccess {
  readonly tls?: ClientTls;
  readonly user?: { readonly name: string; readonly password: () => string };
}

/** @throws WeftError INVALID_ARGUMENT where settings do not go together */
export function checkEtcdAccess(
  values: EtcdTlsPaths & EtcdUserSettings,
  urls: readonly string[],
  origin: Origin,
): void {
  checkEtcdTls(values, urls, origin);
  const { etcdUsername, etcdPasswordFile } = values;
  if ((etcdUsername === undefined) === (etcdPasswordFile === undefined)) return;
  const [present, missing] =
    etcdUsername === undefined
      ? ['etcd-password-file', 'etcd-username']
      : ['etcd-username', 'etcd-password-file'];
  throw invalidArgument(
    `${origin(present) ?? `--${present}`}: needs --${missing} beside it`,
    'Set --etcd-username and --etcd-password-file together.',
  );
}

/** @throws WeftError INVALID_ARGUMENT where a file cannot be used */
export function readEtcdAccess(settings: EtcdTlsPaths & EtcdUserSettings): EtcdAccess {
  const tls = readEtcdTls(settings);
  const { etcdUsername: name, etcdPasswordFile: file } = settings;
  const password = (): string => readPassword(file ?? '');
  if (name !== undefined) password();
  return { ...(tls !== undefined && { tls }), ...(name !== undefined && { user: { name, password } }) };
}

/** The file's content without the line break that an editor leaves at its end. */
function readPassword(path: string): string {
  const flag = '--etcd-password-file';
  let text: string;
  try {
    text = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch (error) {
    throw invalidArgument(`${flag}: ${path}: ${whyUnreadable(error)}`, 'Name a file that can be read.', {
      cause: error,
    });
  }
  if (text === '')
    throw invalidArgument(`${flag}: ${path} is empty`, 'Write the password of the user into it.');
  return text;
}
