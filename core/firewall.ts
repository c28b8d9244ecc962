// The desired firewall of a node, for all its networks together.
//
// agent/kernel expresses it as rules, once for nftables and once for iptables.
import type { Family, IpNetwork } from './address.js';

export interface FirewallNetwork {
  name: string;
  /** The links that receive the network's packets: its bridge and its tunnels. */
  links: string[];
  /** Those of the links that lead to other nodes. */
  tunnels?: string[];
  prefixes: IpNetwork[];
  /** Destinations beside itself: the prefixes of the networks that it is routed with. */
  reaches?: IpNetwork[];
  /** This node's part of it: containers there reach each other without passing the node. */
  local?: IpNetwork[];
  /** No traffic in from outside, and none out. */
  internal: boolean;
  /** Containers leave the overlay under the host's address. */
  masquerade: boolean;
  /** Encrypted: packets to its prefixes leave by its own links or not at all. */
  sealed?: boolean;
}

/** A published port of this node, in one family. */
export interface FirewallPort {
  /** The node's address that it is open on; absent: every one. */
  hostIp?: string;
  hostPort: number;
  protocol: 'tcp' | 'udp';
  /** The container's address and port. */
  ip: string;
  port: number;
  /**
   * The source address that the container sees: the clients' own, or, if its replies to them would not come back this way (it
   * has no default route here), the gateway's. `itself`: the container is not in the node's own subnet, and only its packets
   * to itself need the gateway's.
   */
  clients: 'themselves' | 'gateway' | 'itself';
}

/** The key of a port; two ports with the same key lead to the same container port. */
export const firewallPortKey = ({ hostIp, hostPort, protocol, ip, port, clients }: FirewallPort): string =>
  `${protocol} ${hostIp ?? '*'} ${hostPort} ${ip} ${port} ${clients}`;

/**
 * The rules: a network's link carries only traffic to that network, to those it is routed with, or out of all overlays, so
 * networks do not reach each other; an internal one only traffic to itself. What leaves all overlays from a network with
 * `masquerade` is masqueraded, and nothing else. If the host's own FORWARD policy is DROP, weft's links are accepted there, behind
 * the operator's rules.
 * A published port leads to its container from wherever the node's address can be reached, except from internal networks.
 */
export interface Firewall {
  networks: FirewallNetwork[];
  /** Prefixes of networks that this node is not on: packets of its containers to them are dropped. */
  others?: IpNetwork[];
  /** By firewallPortKey. */
  ports?: ReadonlyMap<string, FirewallPort>;
  /** The records are not complete yet: open ports stay open, though no record has been read for them. */
  keepPorts?: boolean;
  /** UDP ports of the tunnels. */
  tunnelPorts?: number[];
  /** The link that they arrive at. */
  underlay?: string;
  /** Containers ask this node for names, at its gateways. */
  names?: boolean;
  /** Families whose FORWARD chains see traffic that this node only bridges, without a gateway of its own. */
  bridged?: readonly Family[];
}
