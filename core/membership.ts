// Membership: a network as one node takes part in it, compile's input.
import type { IpAddress, IpNetwork } from './address.js';
import type { BackendType } from './backends/types.js';
import { addressIn } from './families.js';
import type { Network, OverlayNetwork } from './network.js';
import type { Lease } from './records.js';

/** The node's place on the underlay. */
export interface Underlay {
  /** IPv4, or IPv6 where the node has no IPv4. */
  ip: IpAddress;
  /** The IPv6 one beside an IPv4 one. */
  ip6?: IpAddress;
  /** What other nodes send to, where it is not these: one-to-one NAT. */
  nat?: { ip: IpAddress; ip6?: IpAddress };
  /** Of the link that has these addresses. */
  mtu: number;
  link: string;
  /** Prefixes reached without a router, on the links of these addresses. */
  onLink: readonly OnLink[];
  /** The host's own routes through routers. Absent: none is known. */
  routers?: readonly Router[];
}

/** The addresses that other nodes send to. */
export function publicAddresses({ ip, ip6, nat }: Underlay): { ip: IpAddress; ip6?: IpAddress } {
  const shown = (own: IpAddress): IpAddress => (nat && addressIn(nat, own.family)) ?? own;
  return { ip: shown(ip), ...(ip6 !== undefined && { ip6: shown(ip6) }) };
}

export interface OnLink {
  link: string;
  prefix: IpNetwork;
}

/** A prefix that is behind a router. */
export interface Router {
  prefix: IpNetwork;
  via: IpAddress;
}

/** The parent link of a network on this node, as it was when the node joined. */
export interface Parent {
  name: string;
  /** A bridge that weft does not own, of which containers become ports; otherwise a NIC, which becomes a port of weft's. */
  isBridge: boolean;
  mac: string;
  mtu: number;
  /** The VLAN id of untagged frames on a bridge with VLANs: the host's own traffic. */
  native?: number;
}

/** A network as this node takes part in it. */
export interface Membership<N extends Network = Network> {
  network: N;
  /** This node's own lease; on a network without leases, the addresses that the node gives out. */
  lease: Lease;
  underlay: Underlay;
  /** Present if the network has a parent. */
  parent?: Parent;
  /** Bridge and gateway are another program's: Docker's own bridge, for one. No container is attached here. */
  subnetOnly?: true;
  /** Of the backend udp: the kernel carries its packets itself. Absent: a process does. */
  fou?: true;
  /** The host's own addresses on the network, and the source of its traffic. */
  exposed?: { ip?: string | undefined; ip6?: string | undefined } | undefined;
}

export type OverlayMembership<T extends BackendType = BackendType> = Membership & {
  network: OverlayNetwork<T>;
};
