// Networks of the drivers bridge and vlan as kernel objects. Four shapes, told apart by what the bridge is:
//
//   bridge                    wfbr-NAME, the gateway on it                    each node by itself
//   vlan                      wfvlan with VLANs, shared by all such networks   each node by itself
//   either, parent a NIC      wfp-NIC, the NIC a port of it                    the LAN, or 802.1Q on it
//   either, parent a bridge   that bridge, as it is
import type { Family, IpAddress } from './address.js';
import { containerMtu, gatewayIn, isGateway, prefixIn, type Membership, type Parent } from './membership.js';
import {
  BRIDGE_LINK_LOCAL,
  endpointAlias,
  lanBridgeName,
  macOf,
  networkAlias,
  ownBridgeName,
  VLAN_BRIDGE,
  VLAN_BRIDGE_MAC,
  vlanGatewayName,
} from './link-names.js';
import type { BridgedNetwork } from './network.js';
import type { BridgeLink, KernelObject } from './objects/index.js';
import type { Endpoint } from './records.js';

export type BridgedMembership = Membership & { network: BridgedNetwork };

/** The bridge that the containers of the network are ports of. */
export function bridgeOf({ network, parent }: BridgedMembership): string {
  if (parent !== undefined) return parent.isBridge ? parent.name : lanBridgeName(parent.name);
  return network.driver === 'vlan' ? VLAN_BRIDGE : ownBridgeName(network.name);
}

/** The link of the node that the network's packets come through; undefined where the node is not in the network itself. */
export function gatewayLinkOf(membership: BridgedMembership): string | undefined {
  if (!isGateway(membership)) return undefined;
  const bridge = bridgeOf(membership);
  return membership.network.driver === 'vlan' ? vlanGatewayName(bridge, membership.network.vlan) : bridge;
}

export function compileBridgedNetwork(membership: BridgedMembership): KernelObject[] {
  const { network, parent } = membership;
  const bridge = bridgeOf(membership);
  const objects: KernelObject[] = [];
  if (parent === undefined || !parent.isBridge) objects.push(bridgeLink(membership, bridge));
  if (parent !== undefined && !parent.isBridge) {
    objects.push({ kind: 'port', link: parent.name, master: bridge }, ...nativeVlan(parent, bridge));
    if (network.driver === 'vlan')
      objects.push({ kind: 'vlan', link: parent.name, bridge, vlan: network.vlan });
  }
  const link = gatewayLinkOf(membership);
  if (link === undefined) return objects;
  if (network.driver === 'vlan') {
    objects.push(
      { kind: 'vlan', link: bridge, bridge, vlan: network.vlan },
      {
        kind: 'link',
        type: 'vlan',
        name: link,
        alias: networkAlias(network.name),
        mtu: Math.min(containerMtu(membership), parent?.mtu ?? membership.underlay.mtu),
        base: bridge,
        vlan: network.vlan,
      },
    );
  }
  for (const family of [4, 6] as const) objects.push(...gatewayObjects(membership, link, family));
  return objects;
}

function bridgeLink({ network, underlay, parent, lease }: BridgedMembership, name: string): BridgeLink {
  const vlans = network.driver === 'vlan' ? { vlans: true } : {};
  const link = { kind: 'link', type: 'bridge', name, ...vlans } as const;
  // The NIC's own address: neighbours of the host go on knowing it, and a switch that admits one address alone lets it pass.
  if (parent !== undefined)
    return { ...link, alias: `weft parent ${parent.name}`, mac: parent.mac, mtu: parent.mtu };
  if (network.driver === 'vlan')
    return { ...link, alias: 'weft VLANs', mac: VLAN_BRIDGE_MAC, mtu: underlay.mtu };
  const gateway = network.gateway ?? lease.subnet.at(1);
  return {
    ...link,
    alias: networkAlias(network.name),
    mac: macOf(gateway),
    mtu: network.mtu ?? underlay.mtu,
  };
}

/** On a bridge with VLANs a port is in none: what comes without a tag, the host's own traffic, needs one of its own. */
function nativeVlan({ name, native }: Parent, bridge: string): KernelObject[] {
  if (native === undefined) return [];
  return [bridge, name].map(
    (link) => ({ kind: 'vlan', link, bridge, vlan: native, untagged: true }) as const,
  );
}

function gatewayObjects(membership: BridgedMembership, link: string, family: Family): KernelObject[] {
  const gateway = gatewayIn(membership, family);
  const prefix = prefixIn(membership, family);
  if (gateway === undefined || prefix === undefined) return [];
  const objects: KernelObject[] = [
    { kind: 'address', link, address: `${gateway.toString()}/${prefix.length}` },
    { kind: 'sysctl', path: `net/ipv${family}/conf/${link}/forwarding`, value: '1' },
  ];
  if (family === 4) objects.push({ kind: 'sysctl', path: 'net/ipv4/ip_forward', value: '1' });
  else {
    objects.push(
      { kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' },
      // Asked for neighbours from: see compileNetwork.
      { kind: 'address', link, address: `${BRIDGE_LINK_LOCAL}/64` },
    );
  }
  return objects;
}

/** The way out of a container: the network's gateway, which another VLAN than the network's own does not have. */
export function gatewayFor(
  membership: Membership,
  endpoint: Pick<Endpoint, 'vlan'>,
  family: Family,
): IpAddress | undefined {
  const { network } = membership;
  if (network.driver === 'vlan' && (endpoint.vlan ?? network.vlan) !== network.vlan) return undefined;
  return gatewayIn(membership, family);
}

export function compileBridgedEndpoint(
  membership: BridgedMembership,
  endpoint: Endpoint,
): { host: KernelObject[]; container: KernelObject[] } {
  const { network, parent } = membership;
  const bridge = bridgeOf(membership);
  const mtu = containerMtu(membership);
  const link = endpoint.ifname;
  const vlan = network.driver === 'vlan' ? (endpoint.vlan ?? network.vlan) : undefined;
  const host: KernelObject[] = [
    {
      kind: 'link',
      type: 'veth',
      name: endpoint.hostIfname,
      alias: endpointAlias(network.name, endpoint.name),
      mtu,
      master: bridge,
      ...(vlan === undefined ? {} : { vlan }),
      // As in overlays, for a container that asks for its own published port.
      ...(endpoint.publish.length === 0 ? {} : { hairpin: true }),
      peer: { name: link, mac: endpoint.mac },
    },
  ];
  if (vlan !== undefined && parent !== undefined && !parent.isBridge)
    host.push({ kind: 'vlan', link: parent.name, bridge, vlan });
  const container: KernelObject[] = [
    { kind: 'link', type: 'loopback', name: 'lo' },
    { kind: 'link', type: 'peer', name: link, mac: endpoint.mac, mtu },
  ];
  for (const family of [4, 6] as const) {
    const address = family === 4 ? endpoint.ip : endpoint.ip6;
    if (address === undefined) continue;
    container.push({ kind: 'address', link, address });
    const via = gatewayFor(membership, endpoint, family);
    if (via === undefined || !endpoint.defaultRoute) continue;
    container.push({ kind: 'route', to: family === 4 ? '0.0.0.0/0' : '::/0', link, via: via.toString() });
  }
  return { host, container };
}

export const isBridgedMembership = (membership: Membership): membership is BridgedMembership =>
  membership.network.driver !== 'overlay';
