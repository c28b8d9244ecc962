// The driver interface: a network's addressing and its objects on a node.
//
// All differences between overlay, bridge and vlan are behind this interface; no other code compares a driver's name.
// Always: a driver gets networks of its own only (index.ts ensures it), and compile is pure.
import type * as z from 'zod';

import type { Family, IpAddress, IpNetwork } from '../address.js';
import type { BackendFields, Fou } from '../backends/backend.js';
import type { Vni } from '../firewall.js';
import type { Membership, Underlay } from '../membership.js';
import type { Need } from '../needs.js';
import type { Network, NetworkSpec, VlanRange } from '../network.js';
import type { KernelObject } from '../objects/index.js';
import type { Claim, Endpoint, Lease } from '../records.js';

/**
 * How a network's addresses are divided: `subnets`, each node has its own and routes to the others'; `node`, each node has
 * all of them, for containers that no other node sees; `blocks`, nodes take blocks of what they share; `claims`, each
 * address is requested and claimed.
 */
export type Addressing = 'subnets' | 'node' | 'blocks' | 'claims';

export interface CompiledEndpoint {
  /** In the node's namespace. */
  host: KernelObject[];
  /** In the container's. */
  container: KernelObject[];
}

/** A network and the addresses that a node gives out of it, if known. */
export interface NetworkAt<N extends Network = Network> {
  network: N;
  lease?: Pick<Lease, 'subnet' | 'subnet6'> | undefined;
}

/** How a peer's node is probed through the network in one family; or why no probe can succeed. */
export type Probe = { family: Family } & (
  | {
      /** It answers there, through the tunnel. */
      address: IpAddress;
      /** The peer's underlay address. */
      underlay: IpAddress;
      /** Bytes of the largest IP packet that a container sends to the peer. */
      size: number;
      /** Bytes that such a packet has on the underlay. */
      outerSize: number;
      /** What to check if it is silent. */
      advice: string;
    }
  | { unreachable: string }
);

export interface NetworkFields extends BackendFields {
  backend?: string;
  vlan?: number;
  allowVlan?: string;
  gatewayNode?: string;
  parent?: string;
  gateway?: string;
  range?: string;
}

/** Options of a network that not every driver accepts. */
export type DriverOption = Exclude<
  keyof NetworkSpec,
  | 'name'
  | 'driver'
  | 'subnet'
  | 'subnet6'
  | 'hostPrefix'
  | 'mtu'
  | 'internal'
  | 'masquerade'
  | 'portSecurity'
  | 'directAccess'
  | 'isolated'
  | 'force'
  | 'madeBy'
>;

export interface Driver<N extends Network = Network> {
  readonly name: N['driver'];
  readonly options: readonly DriverOption[];
  /** A join is rolled back if the kernel refuses any object of it; otherwise the missing ones are tried again. */
  readonly rollsBackFailedJoin: boolean;
  /** The schema of the record in state files. */
  readonly saved: z.ZodType;
  /** Checks a spec by itself and fills in the defaults. @throws WeftError INVALID_ARGUMENT */
  parse(spec: NetworkSpec): N;

  addressing(network: N): Addressing;
  /** In etcd in the place of a backend's type; undefined: its networks have a backend. */
  readonly fixedBackendType: string | undefined;
  needs(network: N, node: string | undefined): readonly Need[];
  /** The prefixes that no other network may have; empty for one that no host has a route to. */
  occupies(network: N, beside: Network): IpNetwork[];
  /** Whether the nodes' own addresses and routes lead into the network. */
  hasOwnGateway(network: N): boolean;
  /** The one node that has the gateway, if not every node has it. */
  gatewayNode(network: N): string | undefined;
  /** The gateway of the containers' default route. @param vlan of the port, if not the network's own */
  gateway(at: NetworkAt<N>, family: Family, vlan?: number): IpAddress | undefined;
  /** The on-link prefix of a container whose address is from the node's own part. */
  prefix(at: NetworkAt<N>, family: Family): IpNetwork | undefined;
  /** Why an address is never given to a container; `block` is the node's part of the network, or what would be one. */
  reserved(network: N, block: IpNetwork, ip: IpAddress): string | undefined;
  /** A free address of the block. @param within only addresses in here @throws WeftError RESOURCE_EXHAUSTED */
  pick(
    network: N,
    block: IpNetwork,
    inUse: (ip: string) => boolean,
    after?: IpAddress,
    within?: IpNetwork,
  ): IpAddress;
  /** An address with the prefix length that it has in a container. */
  withLength(at: NetworkAt<N> & { lease: Lease }, ip: IpAddress): string;

  /** @throws WeftError FAILED_PRECONDITION if a node on this underlay cannot be on the network */
  checkUnderlay(network: N, underlay: Underlay): void;
  /** @throws WeftError FAILED_PRECONDITION, ALREADY_EXISTS naming the network that conflicts */
  checkBeside(network: N, others: Iterable<Network>): void;
  /** Whether containers of the one can stay attached when it becomes the other, as far as links matter. */
  isSameKind(network: N, other: Network): boolean;
  /** The parent link of the network on the node. */
  parent(network: N): string | undefined;
  /** Whether the parent may carry the underlay. */
  takesUnderlay(network: N): boolean;
  /** The VLANs that its containers may be in. */
  vlans(network: N): readonly VlanRange[];
  /** @throws WeftError INVALID_ARGUMENT, FAILED_PRECONDITION if a container cannot be in the VLAN */
  vlanFor(network: N, asked: number | undefined): number | undefined;

  /** MTU of the containers. */
  mtu(membership: Membership<N>): number;
  /** The containers' MTU on links of this MTU, as far as the network alone determines it. */
  usualMtu(network: N, link: number): number;
  /** The node's links that receive the network's packets; none: the node only bridges them. */
  links(membership: Membership<N>): string[];
  /** Those of the links that lead to other nodes. */
  tunnels(membership: Membership<N>): string[];
  /** Whether other nodes' packets come as IP in IP. */
  inIp(network: N): boolean;
  /** What the kernel can carry itself of the network's packets in UDP. */
  fou(network: N): Fou | undefined;
  /** Those of the tunnels that the node's networks share. */
  sharedTunnels(membership: Membership<N>): string[];
  /** Whether packets may reach other nodes' containers without a tunnel, under the addresses that they have. */
  isPlain(network: N): boolean;
  /** The VNIs of its VXLAN tunnels, and their UDP ports. */
  vnis(network: N): Vni[];
  /** UDP ports that receive the network's packets from other nodes. */
  udpPorts(network: N): number[];
  /** The link on which the host itself can have an address in the network. */
  hostLink(membership: Membership<N>): { name: string; mac: string } | undefined;
  /** One in each family of the peer's lease; none: the peer is not reached through this network. */
  probes(membership: Membership<N>, peer: Lease): Probe[];

  /** Fields of the API that describe a network, beside the common ones. */
  describe(network: N): NetworkFields;

  compileNetwork(membership: Membership<N>): KernelObject[];
  compilePeer(membership: Membership<N>, peer: Lease): KernelObject[];
  compileClaim(membership: Membership<N>, claim: Claim, user: Lease): KernelObject[];
  compileEndpoint(membership: Membership<N>, endpoint: Endpoint): CompiledEndpoint;
}
