// The records of a cluster, as weft thinks of them. store/ knows how they are written; everything else sees only these.
import type { IpAddress, IpNetwork } from './address.js';
import type { ForeignKey, Manager } from './manager.js';
import type { LeaseData } from './backends/types.js';
import type { Network } from './network.js';

/** A node's subnet in one network: flannel's lease. */
export interface Lease {
  network: string;
  subnet: IpNetwork;
  subnet6?: IpNetwork;
  publicIp: IpAddress;
  publicIp6?: IpAddress;
  /** As etcd has it. What is not the network's own is shown and left alone. */
  backendType: string;
  /** What its backend publishes of the node's end. */
  data?: LeaseData;
  /** Whose it is; absent for a flanneld or a reservation by hand. */
  node?: string;
  /** The instance id of that node. */
  instance?: string;
  /** Since when that instance has it (RFC 3339): of two nodes that have containers in it, the older one keeps it. */
  since?: string;
  /** A key without an etcd lease: kept until somebody deletes it. */
  reservation: boolean;
}

/** One attached container. */
export interface Endpoint {
  /** 16 hexadecimal digits, random. */
  id: string;
  name: string;
  /** Asked for by --name, and so unique in the network. */
  explicitName: boolean;
  network: string;
  node: string;
  /** Canonical: netns:/run/netns/c1, pid:4711, docker:NAME, run:NAME; host for the node itself. */
  target: string;
  /** What tells the target's namespace from every other one. */
  sandbox: Sandbox;
  ifname: string;
  hostIfname: string;
  mac: string;
  /** With prefix length; /32 (/128) where the address is of another node's subnet. */
  ip: string;
  ip6?: string;
  /** Its address is claimed although its length does not show it: on a network whose nodes share one layer 2. */
  claimed?: boolean;
  /** Whether it carries the container's default route. */
  defaultRoute: boolean;
  aliases: string[];
  /** Ports of the node that lead to it. */
  publish: PublishedPort[];
  /** The VLAN of its port; only on networks of the vlan driver. */
  vlan?: number;
  /** Its namespace's resolv.conf is weft's. */
  dns?: true;
  /** Who attached it, and alone detaches it. */
  manager: Manager;
  /** What the manager calls it; absent for weft's own, and for those of release 0.1. */
  foreignKey?: ForeignKey;
  createdAt: string;
}

/** The target of the endpoint by which the host itself is on a network. */
export const HOST_TARGET = 'host';

export const isHost = (endpoint: Pick<Endpoint, 'target'>): boolean => endpoint.target === HOST_TARGET;

/** A port of a node that leads to a port of a container. */
export interface PublishedPort {
  /** The address of the node that it is open on; 0.0.0.0: on every one, IPv6 ones included. */
  hostIp: string;
  hostPort: number;
  /** The container's. */
  port: number;
  protocol: 'tcp' | 'udp';
  /** Every node of the network opens it, not only the container's. */
  everywhere: boolean;
}

/**
 * A network namespace: where it is found, and its cookie (SO_NETNS_COOKIE), which is never used again until reboot. Of a
 * namespace that is still to come the cookie is empty.
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
  /** Who uses it. */
  node: string;
  endpoint: string;
  /** The owner of the subnet answers what is asked; in space that nobody leases a claim is granted from the start. */
  state: 'asked' | 'granted' | 'refused';
  /** The owner's reason, where refused. */
  why?: string;
}

/** Who uses a claimed address. */
export type ClaimHolder = Pick<Claim, 'node' | 'endpoint'>;

/** Whether two want one address, each for itself: a node is right about its own, and what is set aside all hosts share. */
export const isForeign = (a: ClaimHolder, b: ClaimHolder): boolean =>
  a.node !== b.node && a.endpoint !== b.endpoint;

export interface NodeRecord {
  name: string;
  /** Kept in the node's state directory; tells a node that came back from another one of the same name. */
  instance: string;
  publicIp: string;
  publicIp6?: string;
  version: string;
  /** When this run of the agent began, RFC 3339. */
  startedAt: string;
}

/** A removal that somebody wanted: what vanishes without one was lost, and is written back. */
export interface Removal {
  kind: 'network' | 'node';
  name: string;
  /** RFC 3339. */
  at: string;
  /** Of a node: it was removed although it was up, and shall not come back by itself. */
  forced: boolean;
}

/** A name of a network that people have given, for whatever addresses they say. */
export interface OwnName {
  network: string;
  /** In lower case. */
  name: string;
  /** At least one. */
  ips: IpAddress[];
  /** RFC 3339. */
  createdAt: string;
}

/** A record that could not be read, or that weft does not serve: reported and left alone. */
export interface BadRecord {
  key: string;
  why: string;
}

export type { Network };
