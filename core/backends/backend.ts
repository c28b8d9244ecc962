// The backend interface: how an overlay's packets travel between nodes.
//
// The driver overlay gives each node its subnet, bridge and gateway, and delegates the rest to the network's backend. All
// differences between backends are behind this interface; no other code compares a backend's name.
// Always: compile is pure, and what two networks share (a device of the node) compiles to equal objects, which the union of
// all records merges into one.
import type * as z from 'zod';

import type { Family, IpAddress, IpNetwork } from '../address.js';
import { textIn } from '../families.js';
import type { Vni } from '../firewall.js';
import type { OverlayMembership } from '../membership.js';
import type { Need } from '../needs.js';
import type { OverlayNetwork } from '../network.js';
import type { KernelObject } from '../objects/index.js';
import type { Lease } from '../records.js';
import type { BackendSpec, BackendType, BackendTypes, CloudName } from './types.js';

/** This node's end of the overlay in one family. */
export interface Side {
  family: Family;
  /** This node's subnet. */
  subnet: IpNetwork;
  /** The underlay address of its outgoing packets. */
  local: IpAddress;
}

/** A peer's end, as far as every backend needs it. */
export interface Remote {
  family: Family;
  subnet: IpNetwork;
  /** Its underlay address. */
  publicIp: IpAddress;
  lease: Lease;
}

/** Another network of the cluster, for choosing what must differ between networks. */
export interface OtherNetwork {
  name: string;
  /** Absent if weft does not serve it. */
  network?: OverlayNetwork;
  /** UDP ports that it receives packets on. */
  ports: readonly number[];
  /** The Backend object of its config, not decoded. */
  config?: unknown;
}

/** What a node publishes itself by. */
export interface Identity {
  instance: string;
  /** The public keys of the node, made with the first use. */
  keys: { current(): string; next(): string | undefined };
}

/** What FOU (foo over UDP, net/ipv4/fou_core.c) has of a network: a device, and the UDP port of every node. */
export interface Fou {
  link: string;
  port: number;
}

/** Fields of the API that only some backends have. */
export interface BackendFields {
  vni?: number;
  port?: number;
  directRouting?: boolean;
  encrypted?: boolean;
}

/** Fields of the API that describe a lease. */
export interface LeaseFields {
  vtepMac?: string;
  publicKey?: string;
}

export interface Backend<T extends BackendType = BackendType> {
  readonly type: T;
  /** For help and errors, after "it". */
  readonly summary: string;
  /** The backend options that it accepts. */
  readonly options: readonly Exclude<keyof BackendSpec, 'backend' | 'backendOptions'>[];
  /** flannel's words of its Backend object that can be given beside them. */
  readonly words: readonly string[];
  /** Bytes that it adds to a packet, by the family of the underlay. */
  readonly overhead: Readonly<Record<Family, number>>;
  /** Devices that it creates: one for each network, one of the node for all networks, or none. */
  readonly devices: 'network' | 'node' | 'none';
  readonly needs: readonly Need[];
  /** The cloud whose routes carry its packets, and the tables that a network names. Absent: none does. */
  readonly cloud?: { readonly name: CloudName; tables(network: OverlayNetwork<T>): readonly string[] };
  /** flannel's leases of it have no BackendType. */
  readonly unnamed?: true;
  /** Its tunnels are IP in IP (RFC 2003). */
  readonly inIp?: true;
  /** The device by which the kernel can carry the network's packets itself (membership.fou); undefined: it cannot. */
  fou?(network: OverlayNetwork<T>): Fou | undefined;

  /** Codec of its part of flannel's Backend object, beside Type and MTU. */
  readonly config: {
    readonly schema: z.ZodType<BackendTypes[T]['config']>;
    encode(network: OverlayNetwork<T>): object;
    /** The same fields in state files. */
    readonly saved: z.ZodRawShape;
  };
  /** Codec of BackendData and BackendV6Data of a lease; undefined: it publishes none. */
  readonly data: DataCodec<BackendTypes[T]['data']> | undefined;

  /** @param words the given ones, for the schema of `config`. @throws WeftError INVALID_ARGUMENT, UnreadableError */
  parse(spec: BackendSpec, words: Readonly<Record<string, unknown>>): BackendTypes[T]['config'];
  /** Why the network cannot be created with this backend, or undefined. */
  refuses(network: OverlayNetwork<T>): string | undefined;
  /**
   * Chooses the open values that must differ between networks, or checks the requested ones.
   * @param random below a number @throws WeftError FAILED_PRECONDITION, RESOURCE_EXHAUSTED
   */
  allocate(
    network: OverlayNetwork<T>,
    others: Iterable<OtherNetwork>,
    random: (below: number) => number,
  ): OverlayNetwork<T>;
  /** The network with its open values set to those of `there`, to compare the two. */
  settle(network: OverlayNetwork<T>, there: OverlayNetwork<T>): OverlayNetwork<T>;
  /** @throws WeftError ALREADY_EXISTS if a node cannot be on both */
  checkBeside(network: OverlayNetwork<T>, other: OverlayNetwork): void;

  /** The families of the underlay that carry packets of a family, the preferred one first. */
  carriers(network: OverlayNetwork<T>, family: Family): readonly Family[];
  /** The bridge of the network's containers. */
  bridge(network: OverlayNetwork<T>): string;
  /** Links to other nodes, of this network alone: the firewall accepts what goes from one link of a network to another. */
  tunnels(membership: OverlayMembership<T>, families: readonly Family[]): string[];
  /** Whether packets may go to a peer without a tunnel: its node does not take them for this node's own. */
  isPlain(network: OverlayNetwork<T>): boolean;
  /** Of VXLAN: who sends the network's packets is told by nothing but their source address. */
  vnis(network: OverlayNetwork<T>): Vni[];
  /** UDP ports that receive its packets. */
  udpPorts(network: OverlayNetwork<T>): number[];

  compileNetwork(membership: OverlayMembership<T>, side: Side): KernelObject[];
  compilePeer(membership: OverlayMembership<T>, remote: Remote): KernelObject[];
  /** What leads to an address or subnet at the peer. */
  routesTo(membership: OverlayMembership<T>, remote: Remote, to: IpNetwork): KernelObject[];
  /** Why the peer cannot be reached; undefined: the records show no reason. */
  unreachable(membership: OverlayMembership<T>, remote: Remote): string | undefined;
  /** An address of the peer's node that answers through the overlay. */
  probeAddress(remote: Remote): IpAddress;
  /** What to check if a peer is up and does not answer in a family. */
  advice(network: OverlayNetwork<T>, family: Family): string;

  describe(network: OverlayNetwork<T>): BackendFields;
  describeLease(lease: Lease): LeaseFields;
}

export interface DataCodec<D> {
  readonly schema: z.ZodType<D>;
  encode(data: D): object;
  /** The published data of a node: the same in every run, so that peers need no update. */
  make(self: Identity, network: OverlayNetwork, family: Family): D | undefined;
  /** Codec for state files, and the field's name in each family. */
  readonly saved: z.ZodType<D>;
  readonly savedAs: Readonly<Record<Family, string>>;
}

/** The source address of the host's own packets to the network. */
export function hostSource({ exposed }: OverlayMembership, family: Family): { src?: string } {
  const src = exposed && textIn(exposed, family);
  return src === undefined ? {} : { src };
}

/** MTU of one family's tunnel: the network's requested one, but never more than the underlay carries. */
export const tunnelMtu = ({ underlay, network }: OverlayMembership, overhead: number): number =>
  Math.min(underlay.mtu - overhead, network.mtu ?? Infinity);

/**
 * MTU of the route to a peer, which says in its lease what its underlay carries; absent where this node carries no more. The
 * sender's kernel then tells the container (ICMP), where the peer's underlay would silently drop the packet.
 */
export function routeMtu(
  membership: OverlayMembership,
  { lease }: Remote,
  overhead: number,
): { mtu?: number } {
  if (lease.mtu === undefined) return {};
  const mtu = lease.mtu - overhead;
  return mtu < tunnelMtu(membership, overhead) ? { mtu } : {};
}

/** The most bytes that the backend adds to a packet of the family. */
export const overheadOf = (backend: Backend, network: OverlayNetwork, family: Family): number =>
  Math.max(...backend.carriers(network, family).map((carrier) => backend.overhead[carrier]));
