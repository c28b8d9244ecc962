// The owner of a taken port of this node, for error messages.
import { alreadyExists } from '../../core/errors.js';
import { formatHostPort } from '../../core/publish.js';
import type { PublishedPort } from '../../core/records.js';
import { portOwner } from '../../daemon/port-owner.js';
import { DNS_PORT } from '../dns/index.js';

/** The owner, in words that follow "is taken" or "is in use". */
export interface InUse {
  by: string;
  /** The next step; absent: the general one. */
  next?: string;
}

/** The process that has a port which no endpoint has. */
export async function inUse({ hostIp, hostPort, protocol }: PublishedPort): Promise<InUse> {
  const owner = await portOwner(hostIp, hostPort, protocol).catch(() => undefined);
  if (owner === undefined) return { by: ' by an unknown process' };
  if (owner.pid === process.pid && hostPort === DNS_PORT) {
    return {
      by: ' by weft’s DNS server, which uses this port of the gateways',
      next: `Give one address of the host (HOSTIP:${hostPort}:PORT), or turn the DNS server off on this node with --dns off.`,
    };
  }
  return { by: ` by ${owner.command} (pid ${owner.pid})` };
}

export const taken = (
  published: PublishedPort,
  { by, next = 'Choose another port of the host, or leave it out (:PORT) to get a free one.' }: InUse,
): Error => alreadyExists(`port ${formatHostPort(published)}/${published.protocol} is taken${by}`, next);
