// Plugin host: what a plugin for another program's containers may ask of the agent. Agent and plugins do not know each
// other: the agent offers this to each plugin, under the plugin's manager, and bin/weft puts the two together.
import type { IpAddress, IpNetwork } from '../core/address.js';
import type { ForeignKey, Manager } from '../core/manager.js';
import type { Network, NetworkSpec } from '../core/network.js';
import type { PublishRequest } from '../core/publish.js';
import type { Endpoint } from '../core/records.js';
import type { Logger } from './log.js';
import type { SettingsTable, Values } from './settings.js';

export interface Plugin<T extends SettingsTable = SettingsTable> {
  /** Whose endpoints, addresses and networks are the plugin's. */
  readonly manager: Manager;
  /** Its settings, which become the agent's flags. One that is the agent's too must be the same. */
  readonly settings: T;
  /** Called once the agent has restored what it had. */
  mount(host: PluginHost, settings: Values<T>): Promise<MountedPlugin>;
}

export interface MountedPlugin {
  stop(): Promise<void>;
}

export interface PluginHost {
  readonly node: string;
  readonly log: Logger;
  /** Ends with the agent. */
  readonly signal: AbortSignal;
  /** Where the plugin keeps what must survive, in a folder of its own. */
  readonly stateDir: string;
  readonly networks: HostNetworks;
  readonly addresses: HostAddresses;
  readonly endpoints: HostEndpoints;
  /** Shown by `weft status` until it is cleared. */
  problem(about: PluginProblem, problem: { what: string; why: string; fix: string } | undefined): void;
}

/** What a problem of a plugin's is about. */
export interface PluginProblem {
  /** The plugin's own name. */
  plugin: string;
  kind: 'plugin-socket' | 'plugin-network' | 'state-file';
  /** Which one, where there are several. */
  id?: string;
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
  /** Creates it as one of the manager's. @throws WeftError */
  create(spec: NetworkSpec): Promise<Network>;
  /** Takes exactly this subnet, unless the node has it. @throws WeftError */
  join(name: string, wanted: Subnets): Promise<NodeSubnets>;
  /**
   * Gives the subnet back, unless endpoints of other managers are on it here; a network that this manager made goes with
   * its last node. @throws WeftError UNAVAILABLE; then it is still there
   */
  leave(name: string): Promise<void>;
}

/** An address that is kept for a container which is to come, and stays with it until it is released. */
export interface Reservation {
  /** Of the endpoint that it will be: 16 hexadecimal digits. */
  id: string;
  network: string;
  manager: Manager;
  /** With the prefix length by which it is given to the container. */
  ip: string;
  /** RFC 3339. */
  createdAt: string;
}

export interface HostAddresses {
  /** The manager's, as is whatever is found, reserved or released. */
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

/** An endpoint whose namespace is still to come: its manager moves the container's end inside by itself. */
export interface ConnectRequest {
  /** That of the reservation. */
  id: string;
  key: ForeignKey;
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

/** A container whose namespace is there. */
export interface SandboxRequest {
  key: ForeignKey;
  network: string;
  /** Path of the namespace. */
  sandbox: string;
  name?: string;
  aliases: string[];
  ip?: IpAddress;
  ip6?: IpAddress;
  mac?: string;
  ifname?: string;
  defaultRoute: boolean;
  publish: PublishRequest[];
}

export interface HostEndpoints {
  /** The manager's, also those that the plugin has forgotten. */
  list(): Endpoint[];
  get(id: string): Endpoint | undefined;
  find(key: ForeignKey): Endpoint | undefined;
  /**
   * Attaches a container, as `weft attach` does: all or nothing, and the same call again answers what is there.
   * @throws WeftError, or the signal's reason; then nothing was changed
   */
  attach(request: SandboxRequest, signal: AbortSignal): Promise<Endpoint>;
  /** Makes the pair of links; its container's end waits on the node. All or nothing. */
  connect(request: ConnectRequest): Promise<void>;
  /** What the container's end is called until it is moved inside. */
  transit(id: string): string;
  /** What is gone is no error. A reserved address stays reserved. */
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
