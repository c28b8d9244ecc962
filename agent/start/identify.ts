// Before stage 1: the node's identity, and with it where etcd is.
import { readFileSync } from 'node:fs';

import { failedPrecondition, invalidArgument, messageOf, type WeftError } from '../../core/errors.js';
import { parseToken } from '../../core/identity.js';
import type { Logger } from '../../daemon/log.js';
import type { Shutdown } from '../../daemon/shutdown.js';
import { NodeIdentity, nodeIdentityFolder } from '../identity/index.js';
import type { AgentSettings } from '../settings.js';

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
  const token = settings.dryRun || settings.cleanup ? () => undefined : () => tokenIn(settings);
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

/** @throws WeftError INVALID_ARGUMENT for a file that cannot be used */
function tokenIn({ token, tokenFile }: AgentSettings): string | undefined {
  if (tokenFile === undefined) return token;
  let text: string;
  try {
    text = readFileSync(tokenFile, 'utf8').trim();
  } catch (error) {
    throw invalidArgument(`--token-file: ${messageOf(error)}`, 'Name a file that can be read.', {
      cause: error,
    });
  }
  parseToken(text, '--token-file');
  return text;
}
