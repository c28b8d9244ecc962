// A network as one node takes part in it: what compile starts from.
import type { IpAddress, IpNetwork } from './address.js';
import type { BackendType } from './backends/types.js';
import type { Network, OverlayNetwork } from './network.js';
import type { Lease } from './records.js';

/** Where the node stands on the underlay. */
export interface Underlay {
  ip: IpAddress;
  ip6?: IpAddress;
  /** Of the link that has these addresses. */
  mtu: number;
  link: string;
  /** What is reached without a router, on the links of these addresses. */
  onLink: readonly OnLink[];
}

export interface OnLink {
  link: string;
  prefix: IpNetwork;
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
export interface Membership<N extends Network = Network> {
  network: N;
  /** This node's own; of a network whose addresses nobody leases, what the node gives out. */
  lease: Lease;
  underlay: Underlay;
  /** Present where the network has a parent. */
  parent?: Parent;
  /** The addresses by which the host itself is on the network; its traffic comes from them. */
  exposed?: { ip?: string | undefined; ip6?: string | undefined } | undefined;
}

export type OverlayMembership<T extends BackendType = BackendType> = Membership & {
  network: OverlayNetwork<T>;
};
