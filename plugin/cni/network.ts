// What attachments and addresses have in common: weft's network, keys, STATUS, and which are valid.
import { messageOf, nextOf, notFound } from '../../core/errors.js';
import { subnetIn } from '../../core/families.js';
import type { ForeignKey } from '../../core/manager.js';
import { parseNetworkName } from '../../core/network.js';
import type { NodeSubnets, PluginHost } from '../../daemon/plugin-host.js';
import type { InterfaceKey } from '../attach-sandbox.js';
import { CniError, CODE } from './errors.js';
import type { AttachmentId, CniRequest, Conf } from './request.js';
import type { Range } from './wishes.js';

/** Milliseconds that STATUS waits for the list of networks. */
const KNOWN_MS = 2000;

export const keyOf = (id: AttachmentId): InterfaceKey => ({ manager: 'cni', ...id });

/** weft's network. @throws CniError, WeftError */
export function networkOf({ conf }: CniRequest): string {
  const type = conf.ipam?.type;
  if (type !== undefined && type !== '' && type !== 'weft') {
    throw new CniError(
      CODE.config,
      `ipam: "${type.slice(0, 64)}" gives out addresses, and those of weft's networks are weft's`,
      'Leave ipam out.',
    );
  }
  return parseNetworkName(conf.network ?? conf.ipam?.network ?? conf.name);
}

/** @throws CniError if no ADD can succeed */
export async function status({ networks }: PluginHost, request: CniRequest): Promise<void> {
  try {
    const network = networkOf(request);
    if (networks.get(network) !== undefined) return;
    await networks.known(KNOWN_MS);
    if (networks.list().some(({ name }) => name === network)) return;
    throw notFound(
      `there is no network ${network}`,
      `Create it: weft network create ${network} --subnet CIDR.`,
    );
  } catch (error) {
    throw new CniError(CODE.notAvailable, messageOf(error), nextOf(error), { cause: error });
  }
}

/**
 * Whether GC may remove it: of this configuration, not listed as valid. It must be dead as well, for another runtime may have a
 * configuration of the same name.
 */
export function isUnlisted(conf: Conf, key: ForeignKey | undefined): boolean {
  if (key?.manager !== 'cni' || key.network !== conf.name) return false;
  const listed = conf['cni.dev/valid-attachments'] ?? conf['cni.dev/attachments'] ?? [];
  return !listed.some(({ containerID, ifname }) => containerID === key.containerId && ifname === key.ifname);
}

/** weft gives out any address of the node's subnet: a range that has all of it is kept, any other cannot be. */
export function checkRanges(ranges: readonly Range[], node: NodeSubnets | undefined): void {
  for (const { subnet, isPart } of ranges) {
    const own = node && subnetIn(node, subnet.family);
    if (own !== undefined && !isPart && subnet.contains(own)) continue;
    throw new CniError(
      CODE.config,
      `runtimeConfig.ipRanges: ${subnet.toString()} cannot be kept: this node gives out ${own?.toString() ?? 'no such addresses'}`,
      'Leave ipRanges out, or ask for one address (ips).',
    );
  }
}
