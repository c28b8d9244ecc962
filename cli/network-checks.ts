// Checks of `weft network create` as a whole: options that do not fit each other.
//
// The controller checks again, for other callers.
import { IpAddress, IpNetwork } from '../core/address.js';
import { bridgedNetwork, parseVlans } from '../core/bridged.js';
import { invalidArgument } from '../core/errors.js';
import { parseHostPrefix, parseMtu } from '../core/network.js';
import type { CreateNetworkRequest } from '../proto/gen/weft/v1/controller.js';

type Asked = Partial<Omit<CreateNetworkRequest, 'subnet'>> & { subnet: string; masquerade: boolean };

/** Options that only some drivers have. */
const ONLY = {
  overlay: { backend: 'backend', vni: 'vni', port: 'port', 'host-prefix6': 'hostPrefix6' },
  bridged: {
    vlan: 'vlan',
    parent: 'parent',
    range: 'range',
    gateway: 'gateway',
    'gateway-node': 'gatewayNode',
    'allow-vlan': 'allowVlan',
    force: 'force',
  },
} as const;

/** @throws WeftError INVALID_ARGUMENT */
export function checkNetwork(name: string, asked: Asked): void {
  const { driver = 'overlay' } = asked;
  const foreign = driver === 'overlay' ? ONLY.bridged : ONLY.overlay;
  for (const [option, field] of Object.entries(foreign)) {
    if (asked[field] === undefined) continue;
    const other = driver === 'overlay' ? '--driver bridge or --driver vlan' : '--driver overlay';
    throw invalidArgument(`${option}: the driver ${driver} has none`, `Leave it out, or give ${other}.`);
  }
  if (driver === 'bridge' || driver === 'vlan') {
    const { subnet, subnet6, range, gateway, allowVlan, hostPrefix, mtu, vlan, parent, gatewayNode } = asked;
    bridgedNetwork({
      name,
      driver,
      subnet: IpNetwork.parse(subnet),
      ...(subnet6 !== undefined && { subnet6: IpNetwork.parse(subnet6) }),
      ...(range !== undefined && { range: IpNetwork.parse(range) }),
      ...(gateway !== undefined && { gateway: IpAddress.parse(gateway) }),
      ...(allowVlan !== undefined && { allowVlan: parseVlans(allowVlan) }),
      ...(hostPrefix !== undefined && { hostPrefix }),
      ...(mtu !== undefined && { mtu }),
      ...(vlan !== undefined && { vlan }),
      ...(parent !== undefined && { parent }),
      ...(gatewayNode !== undefined && { gatewayNode }),
      internal: asked.internal ?? false,
      masquerade: asked.masquerade,
      force: asked.force ?? false,
    });
    return;
  }
  if (asked.mtu !== undefined) parseMtu(asked.mtu, asked.subnet6 !== undefined);
  parseHostPrefix(IpNetwork.parse(asked.subnet), asked.hostPrefix, 'host-prefix');
  if (asked.subnet6 !== undefined)
    parseHostPrefix(IpNetwork.parse(asked.subnet6), asked.hostPrefix6, 'host-prefix6');
  else if (asked.hostPrefix6 !== undefined)
    throw invalidArgument('host-prefix6: there is no --subnet6 that it could divide');
}
