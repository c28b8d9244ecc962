// Errors that several parts of the plugin return.
import type { IpNetwork } from '../../core/address.js';
import { alreadyExists, notFound, type WeftError } from '../../core/errors.js';
import type { Network } from '../../core/network.js';

/** The command to use. */
export const command = (subnet: string): string =>
  `docker network create -d weft --ipam-driver weft --subnet ${subnet} NAME`;

export const unknownNetwork = (id: string): WeftError =>
  notFound(
    `weft does not know Docker's network ${id.slice(0, 12)}`,
    'Its state directory was lost: remove the Docker network and create it again, with the same --subnet.',
  );

export function otherSubnet(network: Network, asked: IpNetwork, has: IpNetwork): WeftError {
  return alreadyExists(
    `network ${network.name} is ${has.toString()}, not ${asked.toString()}`,
    `Give --subnet ${has.toString()} to join it, or another name with -o weft.network=NAME.`,
  );
}

export function otherName(network: Network, asked: string, { subnet }: { subnet: string }): WeftError {
  return alreadyExists(
    `${subnet} is network ${network.name}, not ${asked}`,
    `Join it with weft.network=${network.name}, or choose another subnet.`,
  );
}

/** @param what the network or subnet of weft's that the Docker network `twin` has */
export const twinOf = (what: string, twin: { id: string }): WeftError =>
  alreadyExists(
    `${what} is another Docker network of this host already, ${twin.id.slice(0, 12)}`,
    'Use that one: see docker network ls. On one host a network of weft is one Docker network.',
  );
