// Errors that several parts of the plugin return.
import type { IpNetwork } from '../../core/address.js';
import { alreadyExists, failedPrecondition, notFound, WeftError } from '../../core/errors.js';
import { prefixesOf, type Network } from '../../core/network.js';

/** The command to use. */
export const command = (subnet: string, name = 'NAME'): string =>
  `docker network create -d weft --ipam-driver weft --subnet ${subnet} ${name}`;

/** The command, and the same in a Compose file. */
export const howToCreate = (subnet: string): string =>
  `Create it with ${command(subnet)}; in a Compose file: networks: {NAME: {driver: weft, ipam: {driver: weft, config: [{subnet: ${subnet}}]}}}`;

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

/** @param clash the prefix of the network to be made that overlaps it */
export const overlapsOther = (clash: IpNetwork, other: Network): WeftError =>
  failedPrecondition(
    `${clash.toString()} overlaps network ${other.name} (${prefixesOf(other).join(' and ')})`,
    `To join ${other.name}: ${command(other.subnet.toString(), `--ipam-opt weft.network=${other.name} ${other.name}`)}. For another network choose another subnet.`,
  );

/** The error of a network without a name, which has none in its message either. @param given the name in its place */
export function unnamed(error: unknown, given: string): unknown {
  if (!(error instanceof WeftError)) return error;
  const { code, message, next } = error;
  return new WeftError(code, message.replace(`network ${given}: `, ''), next, { cause: error });
}

/** @param nodes that are on it */
export const notInternal = ({ name, madeBy }: Network, nodes: readonly string[]): WeftError =>
  alreadyExists(
    `network ${name} exists without --internal${nodes.length === 0 ? '' : `, on ${nodes.join(', ')}`}`,
    madeBy === 'docker'
      ? `For an isolated one remove it from these hosts (docker network rm ${name}) and create it again with --internal on each, or choose another name and subnet.`
      : `For an isolated one remove it (weft network rm ${name}) and create it again with --internal, or choose another name and subnet.`,
  );

/** @param what the network or subnet of weft's that the Docker network `twin` has */
export const twinOf = (what: string, twin: { id: string }): WeftError =>
  alreadyExists(
    `${what} is another Docker network of this host already, ${twin.id.slice(0, 12)}`,
    'Use that one: see docker network ls. On one host a network of weft is one Docker network.',
  );
