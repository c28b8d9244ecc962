// A backend: how the packets of an overlay get from node to node.
//
// The driver overlay gives each node its subnet, bridge and gateway, and asks the network's backend for the rest. Whatever
// differs between backends is said here, and nowhere is a backend asked for its name.
// Always: compile is pure, and what two networks share (a device of the node's) compiles to equal objects, which the union of
// all records takes for one.
import type { z } from 'zod';

import type { Family, IpAddress, IpNetwork } from '../address.js';
import type { OverlayMembership } from '../membership.js';
import type { Need } from '../needs.js';
import type { OverlayNetwork } from '../network.js';
import type { KernelObject } from '../objects/index.js';
import type { Lease } from '../records.js';
import type { BackendSpec, BackendType, BackendTypes } from './types.js';

/** This node's end in one family. */
export interface Side {
  family: Family;
  /** This node's subnet. */
  subnet: IpNetwork;
  /** The underlay address that it sends from. */
  local: IpAddress;
}

/** Another node's end, as far as every backend needs it. */
export interface Remote {
  family: Family;
  subnet: IpNetwork;
  /** Its underlay address. */
  publicIp: IpAddress;
  lease: Lease;
}

/** Another network of the cluster, as what must differ between networks is chosen. */
export interface OtherNetwork {
  name: string;
  /** Absent where weft does not serve it. */
  network?: OverlayNetwork;
  /** The Backend object of its config, unread. */
  config?: unknown;
}

/** Fields of the API that only some backends fill. */
export interface BackendFields {
  vni?: number;
  port?: number;
}

export interface Backend<T extends BackendType = BackendType> {
  readonly type: T;
  /** For help and errors, after "it". */
  readonly summary: string;
  /** Which of the options for backends it has. */
  readonly options: readonly Exclude<keyof BackendSpec, 'backend'>[];
  /** Bytes that it adds to a packet, by the family of the underlay. */
  readonly overhead: Readonly<Record<Family, number>>;
  /** Devices that it makes: for each network its own, one of the node's for all networks, or none. */
  readonly devices: 'network' | 'node' | 'none';
  readonly needs: readonly Need[];

  /** Its part of flannel's Backend object, beside Type and MTU. */
  readonly config: {
    readonly schema: z.ZodType<BackendTypes[T]['config']>;
    encode(network: OverlayNetwork<T>): object;
    /** The same fields as state files have them. */
    readonly saved: z.ZodRawShape;
  };
  /** BackendData and BackendV6Data of a lease; undefined: it publishes none. */
  readonly data: DataCodec<BackendTypes[T]['data']> | undefined;

  /** @throws WeftError INVALID_ARGUMENT */
  parse(spec: BackendSpec): BackendTypes[T]['config'];
  /** Why the network cannot be made with this backend, or undefined. */
  refuses(network: OverlayNetwork<T>): string | undefined;
  /**
   * Chooses what was left open and must differ between networks, or checks what was asked for.
   * @param random below a number @throws WeftError FAILED_PRECONDITION, RESOURCE_EXHAUSTED
   */
  allocate(
    network: OverlayNetwork<T>,
    others: Iterable<OtherNetwork>,
    random: (below: number) => number,
  ): OverlayNetwork<T>;
  /** The network with what it leaves open as `there` has it, to compare the two. */
  settle(network: OverlayNetwork<T>, there: OverlayNetwork<T>): OverlayNetwork<T>;
  /** @throws WeftError ALREADY_EXISTS where a node cannot be on both */
  checkBeside(network: OverlayNetwork<T>, other: OverlayNetwork): void;

  /** The bridge of the network's containers. */
  bridge(network: OverlayNetwork<T>): string;
  /** Links to other nodes, which carry packets of this network alone or are shared; the firewall knows them as the network's. */
  tunnels(membership: OverlayMembership<T>, families: readonly Family[]): string[];
  /** UDP ports that its packets arrive at. */
  udpPorts(network: OverlayNetwork<T>): number[];

  compileNetwork(membership: OverlayMembership<T>, side: Side): KernelObject[];
  compilePeer(membership: OverlayMembership<T>, remote: Remote): KernelObject[];
  /** The route by which an address or subnet is reached at the peer. */
  routeTo(membership: OverlayMembership<T>, remote: Remote, to: IpNetwork): KernelObject;
  /** Why the peer cannot be reached; undefined: as far as records tell, it can. */
  unreachable(membership: OverlayMembership<T>, remote: Remote): string | undefined;
  /** An address of the peer's node that answers through the overlay. */
  probeAddress(lease: Lease): IpAddress;
  /** What to look at where a peer is up and silent. */
  advice(network: OverlayNetwork<T>): string;

  describe(network: OverlayNetwork<T>): BackendFields;
  describeLease(lease: Lease): { vtepMac?: string };
}

export interface DataCodec<D> {
  readonly schema: z.ZodType<D>;
  encode(data: D): object;
  /** What the node publishes of itself: the same in every run, so that peers need not be told again. */
  make(instance: string, network: OverlayNetwork, family: Family): D | undefined;
  /** As state files have it, and under which name in each family. */
  readonly saved: z.ZodType<D>;
  readonly savedAs: Readonly<Record<Family, string>>;
}

/** The source address of what the host itself sends to the network. */
export function hostSource({ exposed }: OverlayMembership, family: Family): { src?: string } {
  const src = family === 4 ? exposed?.ip : exposed?.ip6;
  return src === undefined ? {} : { src };
}

/** MTU of what carries a family: the network's own, where one was asked for, but never more than the underlay carries. */
export const tunnelMtu = ({ underlay, network }: OverlayMembership, overhead: number): number =>
  Math.min(underlay.mtu - overhead, network.mtu ?? Infinity);
