// vlan: one 802.1Q VLAN, on each node alone or behind a link.
import * as z from 'zod';

import { failedPrecondition, invalidArgument } from '../errors.js';
import { parseName, prefixesOf, type NetworkSpec, type VlanNetwork } from '../network.js';
import type { Driver } from './driver.js';
import { layer2Of } from './layer2-spec.js';
import { checkParent, layer2 } from './layer2.js';
import { savedLayer2, savedVlan } from './saved.js';
import { formatVlans, mergeVlans, parseVlan, VLAN_IDS } from './vlan-ids.js';

export const vlan: Driver<VlanNetwork> = {
  ...layer2,
  name: 'vlan',
  // No flanneld has a backend of this name, so none serves the network wrongly; nor does a weft without the driver.
  fixedBackendType: 'weft-vlan',
  options: ['parent', 'range', 'gateway', 'vlan', 'allowVlan', 'gatewayNode'],
  saved: z.object({
    ...savedLayer2,
    driver: z.literal('vlan'),
    vlan: savedVlan,
    allowVlan: z.array(z.object({ first: savedVlan, last: savedVlan })),
    gatewayNode: z.string().optional(),
  }),
  parse,
  needs(network, node) {
    // The host has a link of its own in the VLAN only if it has the gateway.
    const { gatewayNode } = network;
    const elsewhere = node !== undefined && gatewayNode !== undefined && gatewayNode !== node;
    return layer2.hasOwnGateway(network) && !elsewhere
      ? ['bridge-vlan-filtering', '802.1q']
      : ['bridge-vlan-filtering'];
  },
  occupies: (network) => (layer2.hasOwnGateway(network) ? prefixesOf(network) : []),
  // Without a parent all VLANs of a node share one bridge, too.
  checkBeside: (network, others) =>
    checkParent(network, others, (other) => {
      if (other.driver !== 'vlan') return false;
      if (network.vlan !== other.vlan) return true;
      const { name, parent } = network;
      throw failedPrecondition(
        `network ${name}: VLAN ${network.vlan}${parent === undefined ? '' : ` on ${parent}`} is network ${other.name}`,
        'Attach to that network, or choose another VLAN.',
      );
    }),
  isSameKind: (network, other) =>
    other.driver === 'vlan' && other.parent === network.parent && other.vlan === network.vlan,
  vlans: (network) => mergeVlans([{ first: network.vlan, last: network.vlan }, ...network.allowVlan]),
  vlanFor(network, asked) {
    if (asked === undefined) return network.vlan;
    parseVlan(asked);
    if (vlan.vlans(network).some(({ first, last }) => first <= asked && asked <= last)) return asked;
    const also = network.allowVlan.length === 0 ? '' : ` and ${formatVlans(network.allowVlan)}`;
    throw failedPrecondition(
      `vlan: network ${network.name} does not allow VLAN ${asked}, only ${network.vlan}${also}`,
      'Create the network with --allow-vlan, or choose another VLAN.',
    );
  },
  describe: (network) => ({
    ...layer2.describe(network),
    vlan: network.vlan,
    ...(network.allowVlan.length > 0 && { allowVlan: formatVlans(network.allowVlan) }),
    ...(network.gatewayNode !== undefined && { gatewayNode: network.gatewayNode }),
  }),
};

function parse(spec: NetworkSpec): VlanNetwork {
  if (spec.vlan === undefined) {
    throw invalidArgument(
      'vlan: not given, and the driver vlan needs one',
      `Give --vlan, from ${VLAN_IDS.first} to ${VLAN_IDS.last}.`,
    );
  }
  const network = layer2Of(spec, spec.subnet, false);
  const { gatewayNode } = spec;
  const ownGateway =
    network.gateway !== undefined && (network.parent === undefined || gatewayNode !== undefined);
  return {
    ...network,
    driver: 'vlan',
    vlan: parseVlan(spec.vlan),
    allowVlan: mergeVlans(spec.allowVlan ?? []),
    masquerade: (spec.masquerade ?? true) && ownGateway && !network.internal,
    ...(gatewayNode !== undefined && { gatewayNode: parseName(gatewayNode, 'gateway-node') }),
  };
}
