// Plugin host: the agent's interface for plugins of other programs.
//
// Agent and plugins do not import each other. The agent passes a host to each plugin, under the plugin's manager; bin/weft
// connects the two.
import type { IpAddress, IpNetwork } from '../core/address.js';
import type { Labels } from '../core/labels.js';
import type { ForeignKey, Manager } from '../core/manager.js';
import type { Network, NetworkSpec } from '../core/network.js';
import type { PublishRequest } from '../core/publish.js';
import type { Endpoint, Sandbox } from '../core/records.js';
import type { HttpAnswer, HttpRequest } from './http-socket.js';
import type { Logger } from './log.js';
import type { SettingsTable, Values } from './settings.js';

export interface Plugin<T extends SettingsTable = SettingsTable> {
  /** Owner of the plugin's endpoints, addresses and networks. */
  readonly manager: Manager;
  /** Settings, which become flags of the agent. A setting that the agent has as well must be the same. */
  readonly settings: T;
  /** Called after the agent has restored its state. */
  mount(host: PluginHost, settings: Values<T>): Promise<MountedPlugin>;
}

export interface MountedPlugin {
  /** The socket that it serves; absent: the agent's own, or none. */
  readonly socket?: string | undefined;
  stop(): Promise<void>;
}

/** Handles a request on the agent's HTTP socket. A WeftError that it throws is answered as such. */
export type HttpHandler = (request: HttpRequest) => Promise<HttpAnswer>;

export interface PluginHost {
  readonly node: string;
  readonly log: Logger;
  /** Aborted when the agent stops. */
  readonly signal: AbortSignal;
  /** State directory; the plugin uses a folder of its own in it. */
  readonly stateDir: string;
  readonly networks: HostNetworks;
  readonly addresses: HostAddresses;
  readonly endpoints: HostEndpoints;
  /**
   * Serves POST /NAME on the agent's HTTP socket, from when all plugins are mounted.
   * @returns whether the agent has one
   */
  route(name: string, handler: HttpHandler): boolean;
  /** Shown by `weft status` until it is cleared. */
  problem(about: PluginProblem, problem: { what: string; why: string; fix: string } | undefined): void;
}

/** Key of a plugin's problem. */
export interface PluginProblem {
  /** The plugin's own name. */
  plugin: string;
  kind: 'plugin-socket' | 'plugin-network' | 'plugin-engine' | 'state-file';
  /** Set if there are several problems of this kind. */
  id?: string;
}

/** A network, and this node's subnets and gateways in it. */
export interface NodeSubnets {
  network: Network;
  subnet: IpNetwork;
  subnet6?: IpNetwork;
  gateway: IpAddress;
  gateway6?: IpAddress;
  /** Of its containers. */
  mtu: number;
  /** Bridge and gateway are another program's here (--subnet-only). */
  subnetOnly: boolean;
}

export interface Subnets {
  subnet: IpNetwork;
  subnet6?: IpNetwork;
}

export interface HostNetworks {
  /** Networks of the cluster that this node knows. */
  list(): Network[];
  /** This node's subnets; undefined if it is not on the network. */
  get(name: string): NodeSubnets | undefined;
  /** Names of the nodes that are on it; a flanneld has none. */
  nodes(name: string): string[];
  /** Settles when the list of networks has arrived once. @throws WeftError UNAVAILABLE after `withinMs` */
  known(withinMs: number): Promise<void>;
  /** Prefixes that a new network should not overlap: networks, routes of this node, underlay addresses. */
  usedPrefixes(): Promise<IpNetwork[]>;
  /**
   * A subnet of `whole` that this node has, or may take; no other node gets the same proposal.
   * @param within the subnet is inside this prefix, or contains it
   * @param force of a network that is to be made: it may overlap routes of this host
   * @throws WeftError RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNAVAILABLE
   */
  propose(request: {
    whole: IpNetwork;
    hostPrefix: number;
    within?: IpNetwork;
    force?: boolean;
  }): Promise<IpNetwork>;
  /** @throws WeftError as `create` would, also where routes of this host lie inside the network */
  check(spec: NetworkSpec): Promise<Network>;
  /** Creates it under the manager's name. @throws WeftError */
  create(spec: NetworkSpec): Promise<Network>;
  /**
   * Joins it, unless the node is on it; whose bridge it is does not matter.
   * @param wanted exactly this subnet
   * @throws WeftError
   */
  join(name: string, wanted?: Subnets): Promise<NodeSubnets>;
  /**
   * Releases the subnet, unless endpoints of other managers use the network here. A network that this manager made is deleted
   * with its last node. @throws WeftError UNAVAILABLE; then nothing was changed
   */
  leave(name: string): Promise<void>;
}

/** An address for a future container, held until it is released. */
export interface Reservation {
  /** Id of the future endpoint: 16 hexadecimal digits. */
  id: string;
  network: string;
  manager: Manager;
  /** With the prefix length for the container. */
  ip: string;
  /** The manager's key, and the container, of an address that goes to no endpoint of weft's. */
  foreignKey?: ForeignKey;
  sandbox?: Sandbox;
  /** RFC 3339. */
  createdAt: string;
}

export interface HostAddresses {
  /** Only the manager's reservations, as in `find` and `release`. */
  list(): Reservation[];
  find(network: string, ip: string): Reservation | undefined;
  /** @throws WeftError ALREADY_EXISTS, INVALID_ARGUMENT, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, UNAVAILABLE */
  reserve(request: {
    network: string;
    family: 4 | 6;
    asked?: IpAddress;
    within?: IpNetwork;
    key?: ForeignKey;
    /** Path of the container's namespace; NOT_FOUND if there is none. */
    sandbox?: string;
  }): Promise<Reservation>;
  /** Whether the container's namespace exists; undefined if it cannot be looked at now. */
  isAlive(reservation: Reservation): boolean | undefined;
  /** An address that is not reserved is no error. */
  release(network: string, ip: string): void;
  /** Settles when other nodes can have an address that was released; at once where etcd does not answer. */
  released(network: string, ip: string): Promise<void>;
  /**
   * Keeps an address from every container of the cluster; several hosts may set the same one aside.
   * @throws WeftError ALREADY_EXISTS, FAILED_PRECONDITION if a container has it
   */
  setAside(network: string, ip: IpAddress): Promise<void>;
  giveBack(network: string, ip: IpAddress): Promise<void>;
}

/** An endpoint whose namespace does not exist yet: its manager moves the container's link into it. */
export interface ConnectRequest {
  /** The reservation's id. */
  id: string;
  key: ForeignKey;
  network: string;
  name: string;
  target: string;
  mac: string;
  /** With prefix length. */
  ip: string;
  ip6?: string;
  allowedAddresses?: readonly string[];
  /** Path that the namespace will have. */
  sandbox: string;
}

/** A container whose namespace exists. */
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
  labels?: Labels;
}

/** What a container has of an endpoint, for a manager that tells its runtime. */
export interface ContainerView {
  /** The link of the node that the container's link is a port of; absent: none that is weft's. */
  bridge?: { name: string; mac?: string };
  mtu: number;
  gateway?: string;
  gateway6?: string;
  routes: { to: string; via?: string }[];
  /** Absent: nobody answers names. */
  dns?: { nameservers: string[]; search: string[]; options: string[] };
}

export interface HostEndpoints {
  /** The manager's endpoints, also those that the plugin has no record of. */
  list(): Endpoint[];
  get(id: string): Endpoint | undefined;
  find(key: ForeignKey): Endpoint | undefined;
  /**
   * Attaches a container, as `weft attach` does: all or nothing; a repeated call returns the existing endpoint.
   * @throws WeftError, or the signal's reason; then nothing was changed
   */
  attach(request: SandboxRequest, signal: AbortSignal): Promise<Endpoint>;
  /** Makes the veth pair; the container's link stays on the node. All or nothing. */
  connect(request: ConnectRequest): Promise<void>;
  /** Name of the container's link until it is moved inside. */
  transit(id: string): string;
  /** Undefined if the node is not on its network any more. */
  view(id: string): ContainerView | undefined;
  /**
   * Puts right what the container has lost of it.
   * @returns what it lacks all the same, in words
   */
  repair(id: string): Promise<string[]>;
  /** The address, on the link, at which the container asks for names; undefined: it is reached by another of its endpoints. */
  resolver(id: string): string | undefined;
  /** An unknown id is no error. A reserved address stays reserved. */
  disconnect(id: string): Promise<void>;
  /** Saves what is learnt later. */
  describe(
    id: string,
    about: Partial<Pick<Endpoint, 'name' | 'target' | 'aliases' | 'defaultRoute' | 'mac' | 'labels'>>,
  ): Promise<void>;
  /**
   * Opens these ports of the node for it, all or none.
   * @param about what is learnt at the same time: the default route decides which source address clients have
   * @throws WeftError ALREADY_EXISTS if one is taken
   */
  publish(id: string, ports: readonly PublishRequest[], about: Pick<Endpoint, 'defaultRoute'>): Promise<void>;
  /** Closes all its ports. */
  unpublish(id: string): Promise<void>;
  /** Checks whether the container's link was moved into its namespace; from then on it is reconciled. */
  lookInside(id: string): Promise<void>;
  /**
   * Whether the container's namespace exists; undefined if it has not appeared yet.
   * @param comesWithinMs how long after the endpoint it may appear
   */
  isAlive(id: string, comesWithinMs?: number): boolean | undefined;
}
