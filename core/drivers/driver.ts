// A driver: how a network gives out addresses, and what it and its endpoints are on a node.
//
// Whatever differs between overlay, bridge and vlan is said here, and nowhere is a network asked for its driver's name.
// Always: a driver is given networks of its own alone (index.ts sees to it), and compile is pure.
import type { z } from 'zod';

import type { Family, IpAddress, IpNetwork } from '../address.js';
import type { BackendFields } from '../backends/backend.js';
import type { Membership, Underlay } from '../membership.js';
import type { Need } from '../needs.js';
import type { Network, NetworkSpec, VlanRange } from '../network.js';
import type { KernelObject } from '../objects/index.js';
import type { Claim, Endpoint, Lease } from '../records.js';

/**
 * Whose addresses are whose: `subnets`, each node has its own and routes to the others'; `node`, each node has all of
 * them, for containers that no other node sees; `blocks`, nodes take blocks of what they share; `claims`, each address
 * is asked for and claimed.
 */
export type Addressing = 'subnets' | 'node' | 'blocks' | 'claims';

export interface CompiledEndpoint {
  /** In the node's namespace. */
  host: KernelObject[];
  /** In the container's. */
  container: KernelObject[];
}

/** A network and what a node gives out of it, where that is known. */
export interface NetworkAt<N extends Network = Network> {
  network: N;
  lease?: Pick<Lease, 'subnet' | 'subnet6'> | undefined;
}

/** How another node is asked for through the network, with what to look at where it is silent; or why that is in vain. */
export type Probe = { address: IpAddress; advice: string } | { unreachable: string };

export interface NetworkFields extends BackendFields {
  backend?: string;
  vlan?: number;
  allowVlan?: string;
  gatewayNode?: string;
  parent?: string;
  gateway?: string;
  range?: string;
}

/** Options of a network that not every driver has. */
export type DriverOption = Exclude<
  keyof NetworkSpec,
  'name' | 'driver' | 'subnet' | 'subnet6' | 'hostPrefix' | 'mtu' | 'internal' | 'masquerade' | 'madeBy'
>;

export interface Driver<N extends Network = Network> {
  readonly name: N['driver'];
  readonly options: readonly DriverOption[];
  /** Joining is undone where the kernel refuses any of it; otherwise what is missing is tried again. */
  readonly undoesFailedJoin: boolean;
  /** The record in state files. */
  readonly saved: z.ZodType;
  /** Checks a spec by itself and fills in what is absent. @throws WeftError INVALID_ARGUMENT */
  parse(spec: NetworkSpec): N;

  addressing(network: N): Addressing;
  /** What stands in etcd in the place of a backend's type; undefined: its networks have a backend. */
  readonly fixedBackendType: string | undefined;
  needs(network: N, node: string | undefined): readonly Need[];
  /** What of the network nobody else may have; nothing of one that no host has a route to. */
  occupies(network: N, beside: Network): IpNetwork[];
  /** What has addresses is reached by nodes of their own: their addresses and routes lead into it. */
  hasOwnGateway(network: N): boolean;
  /** The one node that has the gateway, where not every node has it. */
  gatewayNode(network: N): string | undefined;
  /** What the containers' default route leads to. @param vlan of the port, where it is not the network's own */
  gateway(at: NetworkAt<N>, family: Family, vlan?: number): IpAddress | undefined;
  /** The prefix by which a container is given an address of the node's own. */
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
  /** An address with the length by which a container has it. */
  withLength(at: NetworkAt<N> & { lease: Lease }, ip: IpAddress): string;

  /** @throws WeftError FAILED_PRECONDITION where a node on this underlay cannot be on the network */
  checkUnderlay(network: N, underlay: Underlay): void;
  /** @throws WeftError FAILED_PRECONDITION, ALREADY_EXISTS naming the network that is in the way */
  checkBeside(network: N, others: Iterable<Network>): void;
  /** Whether containers of the one can go on living on the other, as far as it is made of links. */
  isSameKind(network: N, other: Network): boolean;
  /** The link of the node that it leaves through. */
  parent(network: N): string | undefined;
  /** Also where the parent carries the underlay. */
  takesUnderlay(network: N): boolean;
  /** The VLANs that its containers may be in. */
  vlans(network: N): readonly VlanRange[];
  /** @throws WeftError INVALID_ARGUMENT, FAILED_PRECONDITION where a container cannot be in the VLAN */
  vlanFor(network: N, asked: number | undefined): number | undefined;

  /** MTU of the containers. */
  mtu(membership: Membership<N>): number;
  /** The same on links of this MTU, as far as the network alone tells it. */
  usualMtu(network: N, link: number): number;
  /** The links of the node through which the network's packets come; none: the node only bridges them. */
  links(membership: Membership<N>): string[];
  /** Those of the links that lead to other nodes. */
  tunnels(membership: Membership<N>): string[];
  /** UDP ports that the network's packets arrive at from other nodes. */
  udpPorts(network: N): number[];
  /** The link on which the host itself can have an address in the network. */
  hostLink(membership: Membership<N>): { name: string; mac: string } | undefined;
  /** Undefined: the peer is nothing that is reached through this network. */
  probe(membership: Membership<N>, peer: Lease): Probe | undefined;

  /** Fields that the API shows of a network, beside those that all have. */
  describe(network: N): NetworkFields;

  compileNetwork(membership: Membership<N>): KernelObject[];
  compilePeer(membership: Membership<N>, peer: Lease): KernelObject[];
  compileClaim(membership: Membership<N>, claim: Claim, user: Lease): KernelObject[];
  compileEndpoint(membership: Membership<N>, endpoint: Endpoint): CompiledEndpoint;
}
