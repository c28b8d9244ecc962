// Checks of `weft network create` as a whole: options that do not fit each other.
//
// The controller checks again, for other callers.
import { IpAddress, IpNetwork } from '../core/address.js';
import { isBackend } from '../core/backends/index.js';
import { isDriver, networkOf } from '../core/drivers/index.js';
import { parseVlans } from '../core/drivers/vlan-ids.js';
import { prefixesFrom } from '../core/network.js';
import type { CreateNetworkRequest } from '../proto/gen/weft/v1/controller.js';

type Asked = Partial<CreateNetworkRequest> & { masquerade: boolean };

/** @throws WeftError INVALID_ARGUMENT */
export function checkNetwork(name: string, asked: Asked): void {
  const { driver, backend, subnet, subnet6, range, gateway, allowVlan, internal, masquerade, force } = asked;
  const { hostPrefix, hostPrefix6, mtu, vni, port, vlan, parent, gatewayNode } = asked;
  const { directRouting, backendOptions = {}, portSecurity, directAccess } = asked;
  // What weft knows and does not serve is the controller's to refuse: another one may serve it.
  if (backend !== undefined && !isBackend(backend)) return;
  networkOf({
    name,
    ...prefixesFrom({
      subnet: subnet === undefined ? undefined : IpNetwork.parse(subnet),
      subnet6: subnet6 === undefined ? undefined : IpNetwork.parse(subnet6),
      hostPrefix,
      hostPrefix6,
    }),
    ...(driver !== undefined && isDriver(driver) && { driver }),
    ...(backend !== undefined && { backend }),
    ...(mtu !== undefined && { mtu }),
    ...(vni !== undefined && { vni }),
    ...(port !== undefined && { port }),
    ...(range !== undefined && { range: IpNetwork.parse(range) }),
    ...(gateway !== undefined && { gateway: IpAddress.parse(gateway) }),
    ...(allowVlan !== undefined && { allowVlan: parseVlans(allowVlan) }),
    ...(vlan !== undefined && { vlan }),
    ...(parent !== undefined && { parent }),
    ...(gatewayNode !== undefined && { gatewayNode }),
    ...(directRouting === true && { directRouting }),
    ...(Object.keys(backendOptions).length > 0 && { backendOptions }),
    ...(internal !== undefined && { internal }),
    masquerade,
    ...(portSecurity !== undefined && { portSecurity }),
    ...(directAccess !== undefined && { directAccess }),
    ...(force !== undefined && { force }),
  });
}
