// What weft asks of a node's firewall, for all its networks together. Which rules express it is the business of
// agent/kernel, once for nftables and once for iptables.
import type { Family, IpNetwork } from './address.js';

export interface FirewallNetwork {
  name: string;
  /** The links through which the network's packets come: its bridge and its tunnels. */
  links: string[];
  /** Those of the links that lead to other nodes. */
  tunnels?: string[];
  prefixes: IpNetwork[];
  /** What it may reach besides itself: the prefixes of the networks that it is routed with. */
  reaches?: IpNetwork[];
  /** This node's part of it: containers there talk to each other without passing the node. */
  local?: IpNetwork[];
  /** Nothing outside reaches it, and it reaches nothing outside. */
  internal: boolean;
  /** Containers leave the overlay under the host's address. */
  masquerade: boolean;
}

/** A port of this node that leads to a container, in one family. */
export interface FirewallPort {
  /** An address of the node; absent: every one. */
  hostIp?: string;
  hostPort: number;
  protocol: 'tcp' | 'udp';
  /** The container's address and port. */
  ip: string;
  port: number;
  /**
   * How the container has to see its clients: under their own address, or, where its answers to them would not come back
   * this way (it has no default route here), under the gateway's. `itself`: it is not in the node's own subnet, and only
   * what it sends to itself needs the gateway's.
   */
  clients: 'themselves' | 'gateway' | 'itself';
}

/** Tells a port from every other; two with the same key lead to the same place. */
export const firewallPortKey = ({ hostIp, hostPort, protocol, ip, port, clients }: FirewallPort): string =>
  `${protocol} ${hostIp ?? '*'} ${hostPort} ${ip} ${port} ${clients}`;

/**
 * The rules, in words: a network's link carries only traffic to that network, to those it is routed with, or out of all
 * overlays, so networks do not reach each other; an internal one only traffic to itself; what leaves all overlays from one
 * that has `masquerade` is masqueraded, and nothing else; where the host's own FORWARD policy is DROP, weft's links are
 * accepted there. A published port leads to its container from wherever the node's address is reached, but not from
 * internal networks.
 */
export interface Firewall {
  networks: FirewallNetwork[];
  /** Prefixes of networks that this node is not on: from its containers nothing goes there, by no way. */
  others?: IpNetwork[];
  /** By firewallPortKey. */
  ports?: ReadonlyMap<string, FirewallPort>;
  /** The records are still coming in: ports that are open stay open, though none of them says so yet. */
  keepPorts?: boolean;
  /** UDP ports that tunnels arrive at. */
  tunnelPorts?: number[];
  /** Families of which the FORWARD chains see what is only bridged here, without a gateway of this node's. */
  bridged?: readonly Family[];
}
