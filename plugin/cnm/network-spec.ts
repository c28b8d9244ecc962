// A Docker network as a network of weft: name, options, spec.
//
// Also checks that an existing network has the same subnets and options.
import { IpNetwork } from '../../core/address.js';
import { alreadyExists, invalidArgument } from '../../core/errors.js';
import { parseNetworkName, type Network, type NetworkSpec } from '../../core/network.js';
import { otherSubnet } from './errors.js';
import { parseNetworkOptions, type NetworkOptions } from './options.js';
import type { DockerNetwork, Pool } from './plugin-state.js';
import { LABEL, type CreateNetwork } from './protocol.js';

/** Name of a network without another name, made from its subnet. */
export const fallbackName = ({ subnet }: Pool): string => `net-${subnet.replaceAll(/[./]/g, '-')}`;

export function isNetworkName(text: string): boolean {
  try {
    parseNetworkName(text);
    return true;
  } catch {
    return false;
  }
}

export function optionsOf({ Options }: CreateNetwork): NetworkOptions {
  const options = parseNetworkOptions(Options[LABEL.generic]);
  if (Options[LABEL.internal] !== true) return options;
  if (options.internal === false) {
    throw invalidArgument(
      '--internal and -o weft.internal=false contradict each other',
      'Leave one of them out.',
    );
  }
  return { ...options, internal: true };
}

export function specOf(
  name: string,
  { options }: DockerNetwork,
  pool: Pool,
  pool6: Pool | undefined,
): NetworkSpec {
  return {
    name,
    subnet: IpNetwork.parse(pool.subnet),
    hostPrefix: pool.hostPrefix,
    ...(pool6 && { subnet6: IpNetwork.parse(pool6.subnet), hostPrefix6: pool6.hostPrefix }),
    ...(isForced(pool, pool6) && { force: true }),
    ...(options.mtu !== undefined && { mtu: options.mtu }),
    ...(options.vni !== undefined && { vni: options.vni }),
    ...(options.port !== undefined && { port: options.port }),
    ...(options.internal !== undefined && { internal: options.internal }),
    ...(options.masquerade !== undefined && { masquerade: options.masquerade }),
  };
}

const isForced = (...pools: (Pool | undefined)[]): boolean => pools.some((pool) => pool?.force === true);

/** @throws WeftError ALREADY_EXISTS with the difference */
export function checkSubnets(there: Network, pool: Pool, pool6: Pool | undefined): void {
  if (isForced(pool, pool6) && there.force !== true) {
    throw alreadyExists(
      `network ${there.name} was created without weft.force`,
      'Leave it out, or remove the network from every host and create it again with it.',
    );
  }
  const subnet = IpNetwork.parse(pool.subnet);
  if (!there.subnet.equals(subnet)) throw otherSubnet(there, subnet, there.subnet);
  const subnet6 = pool6 && IpNetwork.parse(pool6.subnet);
  if (subnet6 !== undefined && there.subnet6?.equals(subnet6) !== true) {
    if (there.subnet6 !== undefined) throw otherSubnet(there, subnet6, there.subnet6);
    throw alreadyExists(`network ${there.name} has no IPv6 subnet`, 'Leave --ipv6 and its subnet out.');
  }
}

/** @throws WeftError ALREADY_EXISTS with the difference */
export function checkOptions(there: Network, { options }: DockerNetwork): void {
  const has: NetworkOptions = { ...there };
  for (const key of ['mtu', 'vni', 'port', 'internal', 'masquerade'] as const) {
    if (options[key] === undefined || options[key] === has[key]) continue;
    throw alreadyExists(
      `network ${there.name} has ${key} ${String(has[key] ?? 'of the underlay')}, not ${String(options[key])}`,
      key === 'internal' ? 'Leave --internal out.' : `Leave weft.${key} out.`,
    );
  }
}
