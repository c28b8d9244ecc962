// Proposed subnets: claims on part of a network before it exists.
//
// Docker asks for the gateway of a host before it describes the network. A proposal keeps other nodes in the same situation
// from choosing the same subnet. It is no config and no lease, has a short etcd lease, and is stored where neither flannel
// nor weft looks for records.
import type { IpNetwork } from '../core/address.js';
import { absent, get, keyAt, put, type Context } from './transaction.js';

/** Seconds from naming a gateway to leasing its subnet. */
const TTL = 120;

/**
 * @param whole the network that the subnet is a part of
 * @param holder the node's instance; proposing the same again is no conflict
 * @returns false where another node has proposed it
 */
export async function proposeSubnet(
  { client, keys }: Context,
  whole: IpNetwork,
  subnet: IpNetwork,
  holder: string,
): Promise<boolean> {
  const key = keys.proposal(whole, subnet);
  const etcdLease = await client.grant(TTL);
  let kept = false;
  try {
    const { succeeded, responses } = await client.txn({
      compare: [absent(key)],
      success: [put(key, holder, etcdLease)],
      failure: [get(key)],
    });
    kept = succeeded;
    return succeeded || keyAt(responses, 0)?.value.toString() === holder;
  } finally {
    if (!kept) client.revoke(etcdLease);
  }
}
