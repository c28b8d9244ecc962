// A Docker network as a network of weft: name, options, spec.
//
// Also checks that an existing network has the same subnets and options.
import { IpNetwork } from '../../core/address.js';
import { alreadyExists, invalidArgument } from '../../core/errors.js';
import { BACKEND_TYPES, ENCRYPTED_BACKEND, isBackend } from '../../core/backends/types.js';
import { describeNetwork } from '../../core/drivers/index.js';
import {
  flagOf,
  hasDirectAccess,
  parseNetworkName,
  type Network,
  type NetworkSpec,
} from '../../core/network.js';
import { notInternal, otherSubnet } from './errors.js';
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
    ...(options.portSecurity !== undefined && { portSecurity: options.portSecurity }),
    ...(options.directAccess !== undefined && { directAccess: options.directAccess }),
    ...backendIn(options),
  };
}

const isForced = (...pools: (Pool | undefined)[]): boolean => pools.some((pool) => pool?.force === true);

/** @throws WeftError INVALID_ARGUMENT for one that weft does not serve, or that does not encrypt */
function backendIn({ backend, encrypted, directRouting }: DockerNetwork['options']): Partial<NetworkSpec> {
  const named = encrypted === true ? (backend ?? ENCRYPTED_BACKEND) : backend;
  if (named !== undefined && !isBackend(named))
    throw invalidArgument(
      `option weft.backend: ${named} is not served`,
      `Give ${BACKEND_TYPES.join(' or ')}.`,
    );
  if (encrypted === true && named !== ENCRYPTED_BACKEND)
    throw invalidArgument(
      `option encrypted: the backend ${named} does not encrypt`,
      'Leave weft.backend out.',
    );
  return { ...(named !== undefined && { backend: named }), ...(directRouting === true && { directRouting }) };
}

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
  if (there.subnet6 !== undefined && pool6 === undefined) {
    throw alreadyExists(
      `network ${there.name} has IPv6, ${there.subnet6.toString()}, and this host's command leaves it out`,
      `Add --ipv6 --subnet ${there.subnet6.toString()}.`,
    );
  }
  const subnet6 = pool6 && IpNetwork.parse(pool6.subnet);
  if (subnet6 !== undefined && there.subnet6?.equals(subnet6) !== true) {
    if (there.subnet6 !== undefined) throw otherSubnet(there, subnet6, there.subnet6);
    throw alreadyExists(`network ${there.name} has no IPv6 subnet`, 'Leave --ipv6 and its subnet out.');
  }
}

/**
 * What Docker was asked for on this host against what the network is. Who names the network with weft.network takes its MTU and
 * masquerading as they are; that it is internal Docker must know itself.
 * @param isMeant it was named with weft.network
 * @param nodes that are on it
 * @returns what is taken as it is, in words: `mtu 1400`
 * @throws WeftError ALREADY_EXISTS with the difference
 */
export function checkOptions(
  there: Network,
  { options }: DockerNetwork,
  { isMeant, nodes }: { isMeant: boolean; nodes: readonly string[] },
): string[] {
  const has: NetworkOptions = {
    ...there,
    ...describeNetwork(there),
    portSecurity: there.portSecurity !== false,
    directAccess: hasDirectAccess(there),
  };
  if (options.internal === true && !there.internal) throw notInternal(there, nodes);
  if (there.internal && options.internal !== true) {
    throw alreadyExists(`network ${there.name} is internal, and Docker was not told so`, 'Add --internal.');
  }
  for (const key of [
    ...(['mtu', 'vni', 'port', 'masquerade'] as const),
    ...(['backend', 'encrypted', 'directRouting', 'portSecurity', 'directAccess'] as const),
  ]) {
    if (options[key] === undefined || options[key] === has[key]) continue;
    throw alreadyExists(
      `network ${there.name} has ${flagOf(key)} ${String(has[key] ?? 'of the underlay')}, not ${String(options[key])}`,
      `Leave weft.${flagOf(key)} out.`,
    );
  }
  const leftOut = [
    ...(there.mtu !== undefined && options.mtu === undefined ? (['mtu'] as const) : []),
    ...(!there.masquerade && options.masquerade === undefined && !there.internal
      ? (['masquerade'] as const)
      : []),
  ];
  const shown = leftOut.map((key) => `${key} ${String(has[key])}`);
  if (isMeant || leftOut.length === 0) return shown;
  const flags = leftOut.map((key) => `-o weft.${key}=${String(has[key])}`).join(' ');
  throw alreadyExists(
    `network ${there.name} has ${shown.join(' and ')}, and this host's command leaves ${leftOut.length > 1 ? 'them' : 'it'} out`,
    `Add ${flags}, as on the other hosts, or join it as it is with -o weft.network=${there.name}.`,
  );
}
