// Before stage 1: the node's identity, and with it where etcd is.
import { readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

import {
  failedPrecondition,
  invalidArgument,
  messageOf,
  unavailable,
  type WeftError,
} from '../../core/errors.js';
import { parseToken } from '../../core/identity.js';
import { errnoOf } from '../../daemon/errno.js';
import type { Logger } from '../../daemon/log.js';
import type { Shutdown } from '../../daemon/shutdown.js';
import { NodeIdentity, nodeIdentityFolder } from '../identity/index.js';
import type { AgentSettings } from '../settings.js';

/** Between looks for the file of a token, in milliseconds. */
const LOOK_MS = 250;

/** The daemon's settings, log and shutdown. */
export interface Launch {
  settings: AgentSettings;
  log: Logger;
  shutdown: Shutdown;
}

export interface Daemon extends Launch {
  /** Undefined where it has none: plain text, or certificates that were brought. */
  identity: NodeIdentity | undefined;
}

/**
 * @param onWait called with each reason why there is no certificate yet
 * @throws WeftError where a token gives no certificate, or nothing says where etcd is; the signal's reason
 */
export async function identify(
  daemon: Launch,
  onWait: (error: WeftError) => void = () => undefined,
): Promise<Daemon> {
  const { settings, log, shutdown } = daemon;
  const folder = nodeIdentityFolder(settings.stateDir);
  const controllers = settings.controller.map(({ text }) => text);
  // A dry run and a clean-up change nothing in the cluster.
  const token = settings.dryRun || settings.cleanup ? () => undefined : () => tokenIn(daemon, onWait);
  const options = { folder, controllers, log, node: settings.node, onWait };
  const identity = await NodeIdentity.open(options, token, shutdown.signal);
  if (identity === undefined) return { ...daemon, identity };
  const { cluster } = identity;
  return {
    ...daemon,
    identity,
    settings: {
      ...settings,
      etcd: etcdOf(daemon, cluster?.etcd ?? []),
      prefix: settings.hasPrefix || cluster === undefined ? settings.prefix : cluster.prefix,
    },
  };
}

function etcdOf({ settings, log }: Launch, learnt: readonly string[]): readonly string[] {
  const { etcd } = settings;
  const isPlain = etcd.length > 0 && etcd.every((url) => url.startsWith('http:'));
  const isSecure = learnt.length > 0 && learnt.every((url) => url.startsWith('https:'));
  // The cluster was moved to TLS, and etcd with it.
  if (isPlain && isSecure) {
    log.warn('etcd takes TLS now: it is reached where the controller says, not at --etcd', {
      etcd: learnt.join(','),
      next: 'Take --etcd out of the settings.',
    });
    return learnt;
  }
  if (etcd.length > 0) return etcd;
  if (learnt.length > 0) return learnt;
  throw failedPrecondition('nothing says where etcd is', 'Give --etcd https://HOST:2379.');
}

/**
 * The token of the settings. A file that is not there yet is waited for: the controller of this host may be about to write it.
 * @throws WeftError INVALID_ARGUMENT for a file that cannot be used; the signal's reason
 */
async function tokenIn(
  { settings: { token, tokenFile }, log, shutdown: { signal } }: Launch,
  onWait: (error: WeftError) => void,
): Promise<string | undefined> {
  if (tokenFile === undefined) return token;
  let isTold = false;
  for (;;) {
    const text = readIfThere(tokenFile);
    if (text !== undefined) {
      parseToken(text, '--token-file');
      return text.trim();
    }
    const missing = unavailable(
      `--token-file: ${tokenFile}: there is no such file yet`,
      'Put a token there: weft token create, where somebody is an administrator.',
    );
    onWait(missing);
    if (!isTold) log.warn('no certificate yet', { error: missing });
    isTold = true;
    await delay(LOOK_MS, undefined, { signal });
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return undefined;
    throw invalidArgument(`--token-file: ${messageOf(error)}`, 'Name a file that can be read.', {
      cause: error,
    });
  }
}
