// Why a port of this node cannot be had, and what is to be done about it.
import { alreadyExists } from '../../core/errors.js';
import { formatHostPort } from '../../core/publish.js';
import type { PublishedPort } from '../../core/records.js';
import { portOwner } from '../../daemon/port-owner.js';
import { DNS_PORT } from '../dns/index.js';

/** What has a port, in words that follow "is taken" or "is in use". */
export interface InUse {
  by: string;
  /** What to do; undefined where nothing special is known. */
  next?: string;
}

/** Who has a port that no endpoint has. */
export async function inUse({ hostIp, hostPort, protocol }: PublishedPort): Promise<InUse> {
  const owner = await portOwner(hostIp, hostPort, protocol).catch(() => undefined);
  if (owner === undefined) return { by: ' by a process that cannot be told' };
  if (owner.pid === process.pid && hostPort === DNS_PORT) {
    return {
      by: ' by weft’s names, which are answered at this port of the gateways',
      next: `Give one address of the host (HOSTIP:${hostPort}:PORT), or turn names off on this node with --dns off.`,
    };
  }
  return { by: ` by ${owner.command} (pid ${owner.pid})` };
}

/** @param by ` by whom` */
export const taken = (
  published: PublishedPort,
  { by, next = 'Choose another port of the host, or leave it out (:PORT) and a free one is taken.' }: InUse,
): Error => alreadyExists(`port ${formatHostPort(published)}/${published.protocol} is taken${by}`, next);
