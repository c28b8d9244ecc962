// Conflicts of prefixes between networks, and with the hosts' own addresses.
import type { IpAddress } from './address.js';
import { driverOf, hasOwnGateway } from './drivers/index.js';
import { failedPrecondition } from './errors.js';
import { prefixesOf, type Network } from './network.js';

/** The first of `others` that shares addresses with the network. */
export function findOverlap(network: Network, others: Iterable<Network>): Network | undefined {
  for (const other of others) {
    if (other.name === network.name) continue;
    const theirs = driverOf(other).occupies(other, network);
    if (
      driverOf(network)
        .occupies(network, other)
        .some((mine) => theirs.some((prefix) => mine.overlaps(prefix)))
    )
      return other;
  }
  return undefined;
}

/** @throws WeftError FAILED_PRECONDITION naming the network or the underlay address that conflicts */
export function checkOverlap(
  network: Network,
  others: Iterable<Network>,
  underlays: Iterable<{ node: string; ip: IpAddress }>,
): void {
  const other = findOverlap(network, others);
  const shown = prefixesOf(network).join(' and ');
  if (other !== undefined) {
    throw failedPrecondition(
      `network ${network.name}: ${shown} overlaps network ${other.name} (${prefixesOf(other).join(' and ')})`,
      'Choose another subnet.',
    );
  }
  for (const { node, ip } of underlays) {
    if (coversUnderlay(network, ip)) {
      throw failedPrecondition(
        `network ${network.name}: ${shown} contains ${ip.toString()}, the underlay address of node ${node}`,
        'Choose a subnet that the hosts themselves do not use.',
      );
    }
  }
}

/** Whether the network would attract packets to this address of a host. */
export const coversUnderlay = (network: Network, ip: IpAddress): boolean =>
  hasOwnGateway(network) && prefixesOf(network).some((mine) => mine.contains(ip));
