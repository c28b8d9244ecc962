// The records of a cluster.
//
// Only store/ knows their form in etcd; everything else uses these types.
import { randomBytes } from 'node:crypto';

import { bareIp, type IpAddress, type IpNetwork } from './address.js';
import type { Labels } from './labels.js';
import type { ForeignKey, Manager } from './manager.js';
import type { LeaseData } from './backends/types.js';
import type { Network } from './network.js';

/** A node's subnet in one network: flannel's lease. */
export interface Lease {
  network: string;
  /** IPv4, or IPv6 where the network has no IPv4. */
  subnet: IpNetwork;
  /** The IPv6 one beside an IPv4 one. */
  subnet6?: IpNetwork;
  /** Its address on the underlay: IPv4, or IPv6 where it has no IPv4. */
  publicIp: IpAddress;
  /** The IPv6 one beside an IPv4 one. */
  publicIp6?: IpAddress;
  /** MTU of its underlay, in bytes; absent if unknown, as of a flanneld. */
  mtu?: number;
  /** As in etcd. A lease of another type than the network's is shown and otherwise ignored. */
  backendType: string;
  /** The data that its backend publishes of the node. */
  data?: LeaseData;
  /** The same for the backend that the network has beside, while it moves. */
  beside?: Pick<Lease, 'backendType' | 'data'>;
  /** The owner; absent for a flanneld or a reservation by hand. */
  node?: string;
  /** The instance id of the owner. */
  instance?: string;
  /** Since when that instance has it (RFC 3339): of two nodes with containers in one subnet, the older holder keeps it. */
  since?: string;
  /** A key without an etcd lease: kept until it is deleted by hand. */
  reservation: boolean;
}

/** One attached container. */
export interface Endpoint {
  /** 16 hexadecimal digits, random. */
  id: string;
  name: string;
  /** Requested with --name, and therefore unique in the network. */
  explicitName: boolean;
  network: string;
  node: string;
  /** Canonical: netns:/run/netns/c1, pid:4711, docker:NAME, run:NAME; host for the node itself. */
  target: string;
  /** Identifies the target's namespace. */
  sandbox: Sandbox;
  ifname: string;
  hostIfname: string;
  mac: string;
  /** With prefix length; /32 (/128) if the address is of another node's subnet. IPv6 where the network has no IPv4. */
  ip: string;
  /** The IPv6 one beside an IPv4 one. */
  ip6?: string;
  /** The address is claimed although its length does not show it: on a network whose nodes share one layer 2. */
  claimed?: boolean;
  /** Whether it carries the container's default route. */
  defaultRoute: boolean;
  aliases: string[];
  /** Prefixes that it may send from beside its addresses: of a router, or an address that moves. */
  allowedAddresses?: string[];
  /** Published ports of the node. */
  publish: PublishedPort[];
  /** The VLAN of its port; only on networks of the vlan driver. */
  vlan?: number;
  /** weft has written its namespace's resolv.conf. */
  dns?: true;
  /** Absent: none. */
  labels?: Labels;
  /** The program that attached it, and alone detaches it. */
  manager: Manager;
  /** The manager's own key; absent for weft's own endpoints, and for those of release 0.1. */
  foreignKey?: ForeignKey;
  createdAt: string;
}

/** The target of the host's own endpoint on a network. */
export const HOST_TARGET = 'host';

/** An id of an endpoint, an attachment or a container: 16 hexadecimal digits, random. */
export const newId = (): string => randomBytes(8).toString('hex');

/** Its addresses, without prefix length. */
export const addressesOf = ({ ip, ip6 }: Pick<Endpoint, 'ip' | 'ip6'>): string[] =>
  ip6 === undefined ? [bareIp(ip)] : [bareIp(ip), bareIp(ip6)];

export const isHost = (endpoint: Pick<Endpoint, 'target'>): boolean => endpoint.target === HOST_TARGET;

/** A published port: one of a node that leads to one of a container. */
export interface PublishedPort {
  /** The node's address that it is open on; 0.0.0.0: every one, IPv6 ones included. */
  hostIp: string;
  hostPort: number;
  /** The container's. */
  port: number;
  protocol: 'tcp' | 'udp';
  /** Every node of the network opens it, not only the container's. */
  everywhere: boolean;
}

/**
 * A network namespace: its path, and its cookie (SO_NETNS_COOKIE), which is never used again until reboot. The cookie of a
 * namespace that does not exist yet is empty.
 */
export interface Sandbox {
  path: string;
  cookie: string;
  bootId: string;
}

/** An address that is used outside the subnet that it belongs to. */
export interface Claim {
  network: string;
  ip: IpAddress;
  /** The node that uses it. */
  node: string;
  endpoint: string;
  /** The owner of the subnet answers a request; in space without a lease a claim is granted from the start. */
  state: 'asked' | 'granted' | 'refused';
  /** The owner's reason, where refused. */
  why?: string;
}

/** The user of a claimed address. */
export type ClaimHolder = Pick<Claim, 'node' | 'endpoint'>;

/** Whether two claims conflict: one node's never do, nor do those of one reservation (endpoint), which all hosts share. */
export const claimsConflict = (a: ClaimHolder, b: ClaimHolder): boolean =>
  a.node !== b.node && a.endpoint !== b.endpoint;

export interface NodeRecord {
  name: string;
  /** Kept in the node's state directory; distinguishes a returning node from another one of the same name. */
  instance: string;
  publicIp: string;
  publicIp6?: string;
  /** What it sends from, where NAT makes its public address of it. */
  underlayIp?: string;
  underlayIp6?: string;
  version: string;
  /** Start of this run of the agent, RFC 3339. */
  startedAt: string;
}

/** A requested removal: a record that disappears without one was lost, and is written back. */
export interface Removal {
  kind: 'network' | 'node';
  name: string;
  /** RFC 3339. */
  at: string;
  /** Of a node: it was removed although it was up, and must not come back by itself. */
  forced: boolean;
  /** Of a network: what a controller that keeps nodes from removing networks knows its own removal by. */
  proof?: string;
}

/** A name that a user added to a network, for any addresses. */
export interface OwnName {
  network: string;
  /** In lower case. */
  name: string;
  /** At least one. */
  ips: IpAddress[];
  /** RFC 3339. */
  createdAt: string;
}

/** A record that cannot be read, or that weft does not serve: reported and otherwise ignored. */
export interface BadRecord {
  key: string;
  why: string;
}

export type { Network };
