// IPAM: picks free addresses of a node's subnet.
//
// Only the node assigns them, so this is pure computation: the addresses in use come from the endpoints and claims that the node
// knows.
import { addressBits, type IpAddress, type IpNetwork } from './address.js';
import { resourceExhausted } from './errors.js';

/** Why an address of a node's subnet is reserved; undefined if a container can have it. */
export function reservedUse(subnet: IpNetwork, ip: IpAddress): string | undefined {
  if (ip.equals(subnet.base)) return `is the base address of ${subnet.toString()}, which the tunnel has`;
  if (ip.equals(subnet.at(1))) return `is the gateway of ${subnet.toString()}`;
  if (ip.family === 4 && ip.equals(subnet.last)) return `is the broadcast address of ${subnet.toString()}`;
  return undefined;
}

/**
 * Picks a free address, starting after `after`, so that a released address is reused as late as possible.
 * @param within restricts the choice to this part of the subnet
 * @throws WeftError RESOURCE_EXHAUSTED
 */
export function pickAddress(
  subnet: IpNetwork,
  inUse: (ip: string) => boolean,
  after?: IpAddress,
  within: IpNetwork = subnet,
): IpAddress {
  const lowest = subnet.base.value + 2n;
  const highest = subnet.family === 4 ? subnet.last.value - 1n : subnet.last.value;
  const first = within.base.value > lowest ? within.base.value : lowest;
  const end = within.last.value < highest ? within.last.value : highest;
  const count = end - first + 1n;
  const start =
    after !== undefined && subnet.contains(after) && after.value >= first && after.value <= end
      ? after.value - first + 1n
      : 0n;
  for (let i = 0n; i < count; i++) {
    const ip = subnet.at(first - subnet.base.value + ((start + i) % count));
    if (!inUse(ip.toString())) return ip;
  }
  const where = within.equals(subnet)
    ? `this node's subnet ${subnet.toString()}`
    : `${within.toString()}, a part of this node's subnet ${subnet.toString()},`;
  throw resourceExhausted(
    `every address of ${where} is in use (${count} containers)`,
    'Detach a container, attach on another node, or create a network with larger node subnets (--host-prefix).',
  );
}

/** `ip` with the prefix length that a container configures it with. */
export const withLength = (ip: IpAddress, subnet: IpNetwork): string =>
  `${ip.toString()}/${subnet.contains(ip) ? subnet.length : addressBits(ip.family)}`;
