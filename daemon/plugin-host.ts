// What a door for another program's containers (Docker's plugin socket) may ask of the agent that it is mounted in. Agent and
// plugin do not know each other: the agent offers this, the plugin uses it, and bin/weft puts the two together.
import type { IpAddress, IpNetwork } from '../core/address.js';
import type { Network, NetworkSpec } from '../core/network.js';
import type { PublishRequest } from '../core/publish.js';
import type { Endpoint } from '../core/records.js';
import type { EngineAddress } from './kinds.js';
import type { Logger } from './log.js';

/** Mounts a door; called once the agent knows again what it has. */
export type Plugin = (host: PluginHost) => Promise<MountedPlugin>;

export interface MountedPlugin {
  stop(): Promise<void>;
}

export interface PluginHost {
  readonly node: string;
  readonly log: Logger;
  /** Ends with the agent. */
  readonly signal: AbortSignal;
  /** Where the door keeps what must survive; the plugin makes a folder of its own in it. */
  readonly stateDir: string;
  /** Where the Docker plugin serves; undefined: it does not. */
  readonly cnmSocket: string | undefined;
  /** Address of the Docker engine. */
  readonly docker: EngineAddress;
  readonly networks: HostNetworks;
  readonly addresses: HostAddresses;
  readonly endpoints: HostEndpoints;
  /** Shown by `weft status` until it is cleared. */
  problem(key: string, problem: { what: string; why: string; fix: string } | undefined): void;
}

/** A network as this node takes part in it. */
export interface NodeSubnets {
  network: Network;
  subnet: IpNetwork;
  subnet6?: IpNetwork;
  gateway: IpAddress;
  gateway6?: IpAddress;
  /** Of its containers. */
  mtu: number;
}

export interface Subnets {
  subnet: IpNetwork;
  subnet6?: IpNetwork;
}

export interface HostNetworks {
  /** Of the whole cluster, as far as this node knows. */
  list(): Network[];
  /** This node's part; undefined where it is not on the network. */
  get(name: string): NodeSubnets | undefined;
  /** Settles when the list of networks has arrived once. @throws WeftError UNAVAILABLE after `withinMs` */
  known(withinMs: number): Promise<void>;
  /** Every prefix that a new network had better not overlap: networks, routes of this node, underlay addresses. */
  usedPrefixes(): Promise<IpNetwork[]>;
  /**
   * A subnet of `whole` that this node has, or that it may take, and which no other node that asks so is told too.
   * @param within in this part, or around it
   * @throws WeftError RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNAVAILABLE
   */
  propose(wish: { whole: IpNetwork; hostPrefix: number; within?: IpNetwork }): Promise<IpNetwork>;
  /** @throws WeftError as `create` would */
  check(spec: NetworkSpec): Network;
  create(spec: NetworkSpec): Promise<Network>;
  /** Takes exactly this subnet, unless the node has it. @throws WeftError */
  join(name: string, wanted: Subnets): Promise<NodeSubnets>;
  /**
   * Gives the subnet back, unless other containers than the door's are on it here; a network that Docker made goes with its
   * last node. @throws WeftError UNAVAILABLE; then it is still there
   */
  leave(name: string): Promise<void>;
}

/** An address that is kept for a container which is to come, and stays with it until it is released. */
export interface Reservation {
  /** Of the endpoint that it will be: 16 hexadecimal digits. */
  id: string;
  network: string;
  /** With the prefix length by which it is given to the container. */
  ip: string;
  /** RFC 3339. */
  createdAt: string;
}

export interface HostAddresses {
  list(): Reservation[];
  find(network: string, ip: string): Reservation | undefined;
  /** @throws WeftError ALREADY_EXISTS, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNAVAILABLE */
  reserve(wish: {
    network: string;
    family: 4 | 6;
    asked?: IpAddress;
    within?: IpNetwork;
  }): Promise<Reservation>;
  /** What is not reserved is no error. */
  release(network: string, ip: string): void;
  /**
   * Keeps an address from every container of the cluster, together with whoever else wants that.
   * @throws WeftError ALREADY_EXISTS, FAILED_PRECONDITION where a container has it
   */
  setAside(network: string, ip: IpAddress): Promise<void>;
  giveBack(network: string, ip: IpAddress): Promise<void>;
}

export interface ConnectRequest {
  /** That of the reservation. */
  id: string;
  network: string;
  name: string;
  target: string;
  mac: string;
  /** With prefix length. */
  ip: string;
  ip6?: string;
  /** Where the namespace will be found. */
  sandbox: string;
}

export interface HostEndpoints {
  /** Those that came through this door, also where the door has forgotten them. */
  list(): Endpoint[];
  get(id: string): Endpoint | undefined;
  /** Makes the pair of links; its container's end waits on the node. All or nothing. */
  connect(request: ConnectRequest): Promise<void>;
  /** What the container's end is called until it is moved inside. */
  transit(id: string): string;
  /** What is gone is no error. Its address stays reserved. */
  disconnect(id: string): Promise<void>;
  /** What is learnt about it later. */
  describe(
    id: string,
    about: Partial<Pick<Endpoint, 'name' | 'target' | 'aliases' | 'defaultRoute'>>,
  ): Promise<void>;
  /**
   * Opens these ports of the node to it, all or none.
   * @param about what is learnt about it at the same time: whether it is the way out says whose address clients come with
   * @throws WeftError ALREADY_EXISTS where one is taken
   */
  publish(id: string, ports: readonly PublishRequest[], about: Pick<Endpoint, 'defaultRoute'>): Promise<void>;
  /** Closes all that it has. */
  unpublish(id: string): Promise<void>;
  /** Looks whether the container's end has been moved into its namespace, and keeps it right from then on. */
  lookInside(id: string): Promise<void>;
  /**
   * Whether the container's namespace is there; undefined where there has been none yet.
   * @param comesWithinMs how long after the endpoint it may come
   */
  isAlive(id: string, comesWithinMs?: number): boolean | undefined;
}
