// bridge: one layer 2 on each node alone, or the nodes' LAN.
import * as z from 'zod';

import { prefixesOf, type BridgeNetwork, type NetworkSpec } from '../network.js';
import type { Driver } from './driver.js';
import { layer2Of } from './layer2-spec.js';
import { checkParent, layer2 } from './layer2.js';
import { savedLayer2 } from './saved.js';
import { noVlan } from './vlan-ids.js';

export const bridge: Driver<BridgeNetwork> = {
  ...layer2,
  name: 'bridge',
  // No flanneld has a backend of this name, so none serves the network wrongly; nor does a weft without the driver.
  fixedBackendType: 'weft-bridge',
  options: ['parent', 'range', 'gateway'],
  saved: z.object({ ...savedLayer2, driver: z.literal('bridge') }),
  parse(spec: NetworkSpec): BridgeNetwork {
    // A bridge of the node itself always has a gateway.
    const network = layer2Of(spec, undefined, true);
    const masquerade = (spec.masquerade ?? true) && network.parent === undefined && !network.internal;
    return { ...network, driver: 'bridge', masquerade };
  },
  needs: () => [],
  occupies(network, beside) {
    if (layer2.hasOwnGateway(network)) return prefixesOf(network);
    // The hosts' LAN. Its link may have different names on different hosts, so several networks may be one LAN; then only
    // their ranges must differ.
    if (beside.driver === 'bridge' && beside.parent !== undefined)
      return network.pool === undefined ? [] : [network.pool];
    return [network.subnet];
  },
  checkBeside: (network, others) => checkParent(network, others, () => false),
  isSameKind: (network, other) => other.driver === 'bridge' && other.parent === network.parent,
  vlans: () => [],
  vlanFor: noVlan,
};
