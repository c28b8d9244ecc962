// The desired firewall of a node, for all its networks together.
//
// agent/kernel expresses it as rules, once for nftables and once for iptables.
import type { Family, IpNetwork } from './address.js';
import type { PolicyItem, PolicyRules } from './policy/index.js';

/** DNS queries of one container, a second and at once: a page has dozens of names, a flood 18,000 a second. */
export const QUERY_LIMIT = { rate: 1000, burst: 2000 };

export interface FirewallNetwork {
  name: string;
  /** The links that receive the network's packets: its bridge and its tunnels. */
  links: string[];
  /** Those of the links that lead to other nodes. */
  tunnels?: string[];
  prefixes: IpNetwork[];
  /**
   * Its tunnel where networks share one, and this node's address in the network, by which the others know it. It is none of the
   * links: what arrives by it is told apart by addresses, as without a tunnel.
   */
  shared?: { link: string; source: string };
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
  /** The LAN and other bridges reach its containers by all ports, not only by those that are published. */
  directAccess?: boolean;
}

/** Where a controller or etcd serves. */
export interface ControlAddress {
  ip: string;
  port: number;
  /** The address is this node's: the port is closed at every address of the node. */
  here: boolean;
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

/** A container's port on the node: the host's end of its veth pair. */
export interface ContainerPort {
  link: string;
  /** What the container may send there; absent: anything (`--port-security off`). */
  bounds?: PortBounds;
}

export interface PortBounds {
  mac: string;
  /** The addresses of all its endpoints: answers may leave by another link than the question came by. */
  ips: readonly string[];
  /** Further sources (`--allowed-address`), as prefixes. */
  allowed: readonly IpNetwork[];
  /** Any IPv6 source: routers of a LAN give its addresses. */
  anyIp6?: true;
  /** The port is on a LAN: protocols beside IP and ARP, and tagged frames, pass. */
  lan?: true;
}

/** Another node of a network. */
export interface FirewallMember {
  /** What it sends from, and is reached at. */
  addresses: readonly string[];
  /** The VXLAN networks that it may send packets of. */
  vnis: readonly Vni[];
  /** Packets that come from it without a tunnel. */
  plain: readonly { from: IpNetwork; to: IpNetwork }[];
  /** Packets that it may send in UDP, where this node's kernel takes them: their sources. Absent: none. */
  fou?: readonly IpNetwork[];
}

export interface Vni {
  /** UDP port. */
  port: number;
  vni: number;
}

/** What changes all day, each at its own cost. */
export type FirewallItem = FirewallPort | ContainerPort | FirewallMember | PolicyItem;

/** What of the desired rules is added and removed. */
export interface FirewallChange {
  added: readonly FirewallItem[];
  removed: readonly FirewallItem[];
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
  /** By link. */
  containers?: ReadonlyMap<string, ContainerPort>;
  /** Other nodes, by a key of their own. */
  members?: ReadonlyMap<string, FirewallMember>;
  /** Another one with every change of ports, containers and members; absent: they are compared. */
  itemsRevision?: number;
  /** Absent: nothing is closed, and no item is there. */
  policy?: PolicyRules;
  /** By keys of their own. */
  policyItems?: ReadonlyMap<string, PolicyItem>;
  /** The records are not complete yet: what is open or bound stays so, though no record has been read for it. */
  keepItems?: boolean;
  /** Addresses of this node in its networks, which no container may have. */
  own?: readonly string[];
  /** UDP ports of every known network's tunnels: containers reach no node by them. */
  backendPorts?: readonly number[];
  /** Some known network's tunnels are IP in IP: containers send nodes no such packets. */
  inIp?: boolean;
  /** The network whose packets the kernel itself takes from UDP: only peers send them, with sources of their own. */
  fou?: { link: string; port: number; prefixes: readonly IpNetwork[] };
  /** The VXLAN networks of this node: who sends their packets must be a member. */
  vnis?: readonly Vni[];
  /** What containers do not reach: the controllers', and an embedded etcd's. */
  control?: readonly ControlAddress[];
  /** New connections of a container beyond so many open ones are dropped. */
  maxConnections?: number;
  /** UDP ports of the tunnels. */
  tunnelPorts?: number[];
  /** The link that they arrive at. */
  underlay?: string;
  /** Containers ask this node for names, at its gateways. */
  names?: boolean;
  /** Families whose FORWARD chains see traffic that this node only bridges, without a gateway of its own. */
  bridged?: readonly Family[];
}
