// A subnet that a node will take in a network which may not be there yet: Docker wants to know the gateway of a host before it
// says what the network is. A proposal keeps others that have to say so from naming the same subnet; it is no config and no
// lease, hangs on a short etcd lease, and lies where neither flannel nor weft looks for records.
import type { IpNetwork } from '../core/address.js';
import { absent, get, keyAt, put, type Context } from './transaction.js';

/** Seconds from saying a gateway to having its subnet. */
const TTL = 120;

/**
 * @param whole the network that it is a part of
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
