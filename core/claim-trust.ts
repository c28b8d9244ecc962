// Which of the granted claims in etcd a node believes: any node may write them, and the key does not say who did.
//
// The node whose subnet it is grants an address that none of its endpoints has. A claim on one that such an endpoint has was
// not granted.
import { addressesOf, type Claim, type Endpoint, type Lease } from './records.js';

export interface ClaimSurroundings {
  /** Of the network. */
  leases: Iterable<Pick<Lease, 'node' | 'subnet' | 'subnet6'>>;
  endpoints: Iterable<Pick<Endpoint, 'id' | 'node' | 'ip' | 'ip6'>>;
}

/** Why a claim is not believed; undefined: it is. */
export function whyClaimDisbelieved(
  { ip, node, state }: Claim,
  { leases, endpoints }: ClaimSurroundings,
): string | undefined {
  if (state !== 'granted') return undefined;
  const lessee = nodeOfSubnet(ip, leases);
  if (lessee === undefined || lessee === node) return undefined;
  const text = ip.toString();
  for (const endpoint of endpoints) {
    if (endpoint.node !== lessee || !addressesOf(endpoint).includes(text)) continue;
    return `node ${lessee}, whose subnet it is in, has it on its endpoint ${endpoint.id}`;
  }
  return undefined;
}

function nodeOfSubnet(ip: Claim['ip'], leases: ClaimSurroundings['leases']): string | undefined {
  for (const { node, subnet, subnet6 } of leases)
    if (subnet.contains(ip) || subnet6?.contains(ip) === true) return node;
  return undefined;
}
