// The leases of a network as etcd lists them.
import type { IKeyValue, IRequestOp, IResponseOp } from 'etcd3';

import { notFound } from '../core/errors.js';
import { ifReadable } from '../core/parse.js';
import { decodeLease } from './lease-codec.js';
import type { LeaseKey } from './lease-choice.js';
import { get, getAll, keyAt, rangeAt, type Context } from './transaction.js';

export const listing = ({ keys }: Context, network: string): IRequestOp[] => [
  get(keys.config(network)),
  getAll(keys.subnets(network)),
];

/** What listing() has read. @throws WeftError NOT_FOUND if the network does not exist */
export function leasesIn(context: Context, network: string, responses: readonly IResponseOp[]): LeaseKey[] {
  if (keyAt(responses, 0) === undefined) throw gone(network);
  return rangeAt(responses, 1).flatMap((kv) => readKey(context, kv) ?? []);
}

/** @throws WeftError NOT_FOUND if the network does not exist */
export async function listLeases(context: Context, network: string): Promise<LeaseKey[]> {
  const { responses } = await context.client.txn({ success: listing(context, network) });
  return leasesIn(context, network, responses);
}

export const gone = (network: string): Error =>
  notFound(
    `network ${network} does not exist any more`,
    'It was removed; create it again with weft network create.',
  );

export function readKey({ keys, replica }: Context, kv: IKeyValue): LeaseKey | undefined {
  const key = kv.key.toString();
  const parsed = keys.parse(key);
  if (parsed.kind !== 'lease') return undefined;
  // Thousands of leases are read while a node joins, and the view has most of them.
  const known = replica.record(key, kv.value, kv.lease);
  const lease =
    known?.kind === 'lease'
      ? known.value
      : ifReadable(() => decodeLease(parsed, kv.value.toString(), kv.lease));
  return {
    key,
    subnet: parsed.subnet,
    ...(parsed.subnet6 && { subnet6: parsed.subnet6 }),
    modRevision: kv.mod_revision,
    etcdLease: kv.lease,
    ...(lease && { lease }),
  };
}
