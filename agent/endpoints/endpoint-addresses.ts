// Addresses of an endpoint: allocated on attach, and written in its record.
//
// An endpoint has one address in each family in which the node has a subnet.
import { parseInterface, type IpAddress, type IpNetwork } from '../../core/address.js';
import type { Membership } from '../../core/compile.js';
import { addressingOf, driverOf, reservedIn } from '../../core/drivers/index.js';
import { withLength } from '../../core/ipam.js';
import type { Endpoint } from '../../core/records.js';
import { givesOut, type Addresses, type AddressRequest } from './addresses.js';
import type { AttachRequest } from './attach-request.js';
import type { Rollback } from '../../daemon/rollback.js';

/** Id and addresses that an endpoint had before its container restarted; it gets them again if they are free. */
export interface PreviousAddresses {
  endpoint?: string | undefined;
  ip?: string | undefined;
  ip6?: string | undefined;
}

/** The endpoint and the addresses that it asks for. */
export interface EndpointAddressRequest {
  membership: Membership;
  /** Of the endpoint to be made. */
  id: string;
  request: Pick<AttachRequest, 'ip' | 'ip6'>;
  previous?: PreviousAddresses | undefined;
}

/**
 * Allocates an address in each family in which the node has a subnet.
 * @param rollback releases them
 * @throws WeftError as `Addresses.take`
 */
export async function takeAddresses(
  addresses: Addresses,
  { membership, id: holder, request, previous = {} }: EndpointAddressRequest,
  rollback: Rollback,
  signal?: AbortSignal,
): Promise<Pick<Endpoint, 'ip' | 'ip6' | 'claimed'>> {
  const { subnet, subnet6 } = membership.lease;
  const take = (one: Pick<AddressRequest, 'subnet' | 'asked' | 'preferred'>): Promise<IpAddress> =>
    addresses.take({ membership, holder, ...one }, rollback, signal);
  const before = usable(membership, subnet, previous.ip);
  const asked = subnet.family === 4 ? request.ip : request.ip6;
  const ip = await take({
    subnet,
    ...(asked && { asked }),
    ...(before && { preferred: before }),
  });
  if (subnet6 === undefined) return givenAs(membership, ip);
  const preferred = usable(membership, subnet6, previous.ip6) ?? samePlace(membership, ip);
  const ip6 = await take({
    subnet: subnet6,
    ...(request.ip6 && { asked: request.ip6 }),
    ...(preferred && { preferred }),
  });
  return { ...givenAs(membership, ip), ip6: withLength(ip6, subnet6) };
}

/** The container's previous address, if it is still one of this node's subnet. */
function usable({ network }: Membership, subnet: IpNetwork, text: string | undefined): IpAddress | undefined {
  const ip = text === undefined ? undefined : parseInterface(text).address;
  return ip !== undefined && subnet.contains(ip) && reservedIn(network, subnet, ip) === undefined
    ? ip
    : undefined;
}

/** The IPv6 address with the IPv4 address's offset in its subnet: the pair is easier to read. */
function samePlace({ lease }: Membership, ip: IpAddress): IpAddress | undefined {
  if (lease.subnet6 === undefined || !lease.subnet.contains(ip)) return undefined;
  return lease.subnet6.at(ip.value - lease.subnet.base.value);
}

/** An address with its prefix length in the container: the network's if all endpoints are on one link. */
function givenAs(membership: Membership, ip: IpAddress): Pick<Endpoint, 'ip' | 'claimed'> {
  const { network, lease } = membership;
  const given = { ip: driverOf(network).withLength(membership, ip) };
  // With a subnet for each node, the prefix length shows it.
  const claimed = addressingOf(network) !== 'subnets' && !givesOut(membership, lease.subnet, ip);
  return claimed ? { ...given, claimed } : given;
}
