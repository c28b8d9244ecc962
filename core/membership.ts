// A network as one node takes part in it: what compile starts from.
import type { Family, IpAddress, IpNetwork } from './address.js';
import { gatewayOf } from './link-names.js';
import { hasOwnGateway, VXLAN_OVERHEAD, type Network, type OverlayNetwork } from './network.js';
import type { Lease } from './records.js';

/** Where the node stands on the underlay. */
export interface Underlay {
  ip: IpAddress;
  ip6?: IpAddress;
  /** Of the link that has these addresses. */
  mtu: number;
  link: string;
}

/** The link of this node that a network leaves through, as it was when the node joined. */
export interface Parent {
  name: string;
  /** A bridge of somebody else, of which containers become ports; otherwise a NIC, which becomes a port of weft's. */
  isBridge: boolean;
  mac: string;
  mtu: number;
  /** The id that stands for untagged frames on a bridge with VLANs: the host's own traffic. */
  native?: number;
}

/** A network as this node takes part in it. */
export interface Membership {
  network: Network;
  /** This node's own; of a network whose addresses nobody leases, what the node gives out. */
  lease: Lease;
  underlay: Underlay;
  /** Present where the network has a parent. */
  parent?: Parent;
}

/** A membership in an overlay. */
export type OverlayMembership = Membership & { network: OverlayNetwork };

export const isOverlay = (membership: Membership): membership is OverlayMembership =>
  membership.network.driver === 'overlay';

/** What the containers' default route leads to; undefined where there is nothing of the kind. */
export function gatewayIn({ network, lease }: Membership, family: Family = 4): IpAddress | undefined {
  if (network.driver === 'overlay') {
    const subnet = family === 4 ? lease.subnet : lease.subnet6;
    return subnet === undefined ? undefined : gatewayOf(subnet);
  }
  if (family === 4) return network.gateway;
  return network.subnet6 !== undefined && hasOwnGateway(network) ? gatewayOf(network.subnet6) : undefined;
}

/** Whether the gateway is this node itself. */
export function isGateway({ network, lease }: Membership): boolean {
  if (network.driver === 'vlan' && network.gatewayNode !== undefined)
    return network.gatewayNode === lease.node;
  return hasOwnGateway(network);
}

/** The gateways that are this node itself: where its containers find what the node answers. */
export function ownGateways(membership: Membership): IpAddress[] {
  if (!isGateway(membership)) return [];
  return ([4, 6] as const).flatMap((family) => gatewayIn(membership, family) ?? []);
}

/** The prefix by which a container is given an address of the node's own; undefined where there is no such family. */
export function prefixIn({ network, lease }: Membership, family: Family): IpNetwork | undefined {
  const from = network.driver === 'overlay' ? lease : network;
  return family === 4 ? from.subnet : from.subnet6;
}

/** MTU of a tunnel of this family: the network's own, where one was asked for, but never more than the underlay carries. */
export const tunnelMtu = ({ underlay, network }: Membership, family: Family): number =>
  Math.min(underlay.mtu - VXLAN_OVERHEAD[family], network.mtu ?? Infinity);

/** MTU of the containers: the lowest of the network's tunnels, the parent's, or what was asked for. */
export function containerMtu(membership: Membership): number {
  const { network, lease, underlay, parent } = membership;
  if (network.driver !== 'overlay') {
    return parent === undefined
      ? (network.mtu ?? underlay.mtu)
      : Math.min(parent.mtu, network.mtu ?? Infinity);
  }
  const sides: Family[] = [];
  if (lease.vtep !== undefined) sides.push(4);
  if (lease.subnet6 !== undefined && underlay.ip6 !== undefined && lease.vtep6 !== undefined) sides.push(6);
  return Math.min(...sides.map((family) => tunnelMtu(membership, family)));
}
