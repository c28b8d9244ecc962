// The interface of the store: the cluster as recorded in etcd.
//
// etcd-store.ts is the real one. Reads are local: a replica follows etcd (one list, one watch) and decodes every record once;
// `view` is always a consistent state, of the revision that it names. Writes go straight to etcd, in transactions.
import type { IpAddress, IpNetwork } from '../core/address.js';
import type { LeaseData } from '../core/backends/types.js';
import type { NetworkSpec, OverlayNetwork } from '../core/network.js';
import type { Policy } from '../core/policy/index.js';
import type {
  BadRecord,
  Claim,
  ClaimHolder,
  Endpoint,
  Lease,
  Network,
  NodeRecord,
  OwnName,
  Removal,
} from '../core/records.js';

/** All records, by their key fields. Reading never waits. */
export interface View {
  readonly networks: ReadonlyMap<string, Network>;
  /** By network, then by the text of the IPv4 subnet. */
  readonly leases: ReadonlyMap<string, ReadonlyMap<string, StoredLease>>;
  /** By network, then by id. */
  readonly endpoints: ReadonlyMap<string, ReadonlyMap<string, Endpoint>>;
  /** By network, then by the text of the address. */
  readonly claims: ReadonlyMap<string, ReadonlyMap<string, Claim>>;
  /** By network, then by name: names added by users. */
  readonly names: ReadonlyMap<string, ReadonlyMap<string, OwnName>>;
  readonly nodes: ReadonlyMap<string, NodeRecord>;
  /** Nodes whose life lease exists, with the instance that holds it. */
  readonly alive: ReadonlyMap<string, string>;
  /** By name. */
  readonly policies: ReadonlyMap<string, Policy>;
  /** By `network NAME` and `node NAME`. */
  readonly removals: ReadonlyMap<string, Removal>;
  /** By key: unreadable records. One that was readable before keeps its last readable state in the maps above. */
  readonly bad: ReadonlyMap<string, BadRecord>;
}

export interface StoredLease extends Lease {
  /** The etcd lease of the key, '0' if it has none. */
  etcdLease: string;
}

/** One change of the view; without `after` the record was deleted; `lost`: in a restore of etcd, not by a request. */
export type Change =
  | { kind: 'network'; name: string; before?: Network; after?: Network }
  | { kind: 'lease'; network: string; subnet: string; before?: StoredLease; after?: StoredLease; lost?: true }
  | { kind: 'endpoint'; network: string; id: string; before?: Endpoint; after?: Endpoint }
  | { kind: 'ownName'; network: string; name: string; before?: OwnName; after?: OwnName }
  | { kind: 'claim'; network: string; ip: string; before?: Claim; after?: Claim; lost?: true }
  | { kind: 'node'; name: string; before?: NodeRecord; after?: NodeRecord }
  | { kind: 'alive'; name: string; before?: string; after?: string }
  | { kind: 'policy'; name: string; before?: Policy; after?: Policy }
  | { kind: 'removal'; key: string; before?: Removal; after?: Removal }
  | { kind: 'bad'; key: string; before?: BadRecord; after?: BadRecord };

export interface StoreState {
  connected: boolean;
  since: Date;
  /** Of the newest response. */
  revision: number;
  /** Number of full lists after the first (compaction, restore). */
  resyncs: number;
  /** When etcd was last found with another history: restored from a copy, emptied, or replaced. */
  restored?: Date;
  /** Why it is not connected. */
  error?: string;
}

/** What can be changed of a network. */
export interface NetworkChange {
  masquerade?: boolean;
  portSecurity?: boolean;
  directAccess?: boolean;
  isolated?: boolean;
  /** Networks to add to or remove from those that it is routed with. */
  addRoutes?: readonly string[];
  removeRoutes?: readonly string[];
  /**
   * A step of a move to another backend. `prepare`: it is there beside, with its open values chosen. `flip`: the two change
   * places, if `to` is beside. `end`: the one beside goes.
   */
  move?: { prepare: OverlayNetwork } | { flip: OverlayNetwork } | 'end';
}

/** A request for an address outside the node's own subnet. */
export interface ClaimRequest {
  network: Network;
  ip: IpAddress;
  node: string;
  endpoint: string;
  /** Why the address has an owner although a restored etcd has no record of it; asked last. */
  retainedFor?: () => string | undefined;
}

/** A request for a subnet. */
export interface LeaseRequest {
  network: Network;
  node: string;
  instance: string;
  publicIp: IpAddress;
  publicIp6?: IpAddress;
  /** Of the underlay. */
  mtu?: number;
  /** What the network's backend publishes of this node, by family. */
  data?: LeaseData;
  /** The same for the backend that the network has beside. */
  beside?: Lease['beside'];
  /** The node's last subnet, acquired again if possible. */
  previous?: { subnet: IpNetwork; subnet6?: IpNetwork };
  /** This subnet and no other. */
  wanted?: { subnet: IpNetwork; subnet6?: IpNetwork };
  /** Prefixes of the node's other networks, in which it takes no new subnet. */
  avoid?: readonly IpNetwork[];
  /** Since when the node has had its previous subnet, RFC 3339. */
  since?: string;
  /** Containers run in the previous subnet: it is reclaimed from a weft node that has had it for a shorter time. */
  inUse?: boolean;
  ttlSeconds: number;
}

export interface Store {
  readonly view: View;
  readonly state: StoreState;
  /** Settles when the first full list has arrived. @throws the signal's reason */
  synced(signal?: AbortSignal): Promise<void>;
  readonly isSynced: boolean;
  /** Called after each change of the view, once for each consistent batch, in etcd's order. */
  subscribe(listener: (changes: readonly Change[]) => void): () => void;
  onState(listener: (state: StoreState) => void): () => void;
  /** Whether the view has the containers of a network: endpoints, claims and names. All else it has of all networks. */
  follows(network: string): boolean;
  /** From now on the view is to have the containers of a network. Whoever asks says when it needs them no longer. */
  follow(network: string): FollowedNetwork;
  /** Networks that were followed from the start are followed no longer, unless somebody has asked for them. */
  narrow(): void;
  /** The machine's address or route changed: connections over the old one are dropped at once, not after a timeout. */
  reconnect(): void;
  /** Whether the key of a lease was made before its network's config was last written. */
  predatesConfig(lease: Lease): boolean;

  /** Waits until the view has the config of a network as etcd has it now, if it has one. @throws WeftError UNAVAILABLE */
  seeNetwork(name: string): Promise<void>;
  /**
   * Checks the network against every other one and the underlay addresses of every node, chooses a VNI, and writes it, in one
   * transaction. @throws WeftError INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION, UNAVAILABLE
   */
  createNetwork(spec: NetworkSpec): Promise<Network>;
  /** A dry run of createNetwork; the VNI is 0 where a free one would be chosen. @throws as createNetwork */
  checkNetwork(spec: NetworkSpec): Network;
  /**
   * Deletes the config, every subnet, endpoint and claim, and writes the tombstone, in one transaction.
   * @param options.unleased only if no node has a subnet in it
   * @throws WeftError NOT_FOUND; FAILED_PRECONDITION while it has endpoints, unless forced
   */
  removeNetwork(name: string, options: { force: boolean; unleased?: boolean }): Promise<void>;
  /**
   * Changes an existing network in one transaction. No concurrent change is lost, and fields of the config that weft does not
   * know are kept. @throws WeftError NOT_FOUND, FAILED_PRECONDITION for a config that cannot be read
   */
  updateNetwork(name: string, change: NetworkChange): Promise<Network>;
  /**
   * Writes a lost config back, unless it exists or its removal was requested. Returns whether it wrote. A config that this
   * process has read is written as it was, with the fields that weft does not know.
   * @param own whose subnet (`previous`) is written in the same transaction, so that no other node takes it in between
   * @param had since when the node has been on the network, RFC 3339: an older removal was of another network of that name
   */
  restoreNetwork(network: Network, own?: LeaseRequest, had?: string): Promise<boolean>;

  /**
   * Acquires a subnet, as flannel does: the lease with this node's public address (or instance id), then the previous one,
   * then a random one of the first hundred free ones; after a lost race the next candidate. A previous one that is in use
   * comes before a lease of another subnet. Returns the lease in etcd. A reservation stays one.
   * @throws WeftError RESOURCE_EXHAUSTED; NOT_FOUND if the network does not exist; FAILED_PRECONDITION if a living node of
   *   another instance has the same name or public address, or one of another name the same instance; UNAVAILABLE
   */
  acquireLease(request: LeaseRequest, signal?: AbortSignal): Promise<StoredLease>;
  /**
   * Announces for two minutes that this node will take a subnet of a network that is still to be created. Returns false if
   * another node has announced it. @throws WeftError UNAVAILABLE
   */
  proposeSubnet(whole: IpNetwork, subnet: IpNetwork, holder: string): Promise<boolean>;
  /**
   * Renews a lease as flannel does, with a new etcd lease for the same subnet; a lost key is written again. A reservation
   * needs no renewal. @throws WeftError FAILED_PRECONDITION if another node has the subnet now; NOT_FOUND, UNAVAILABLE
   */
  renewLease(lease: StoredLease, ttlSeconds: number): Promise<StoredLease>;
  /** Releases a lease; a reservation, or a lease that another node has by now, stays. */
  releaseLease(lease: Lease): Promise<void>;

  /**
   * @param unique the name must be the only one in the network
   * @throws WeftError ALREADY_EXISTS naming the endpoint that has the name; NOT_FOUND if the network does not exist
   */
  putEndpoint(endpoint: Endpoint, options: { unique: boolean }): Promise<void>;
  deleteEndpoint(network: string, id: string): Promise<void>;

  /**
   * Claims an address outside the node's subnet, and waits for the owner's answer if the space is leased.
   * @throws WeftError FAILED_PRECONDITION (refused, a flanneld's, no answer, retained), ALREADY_EXISTS (claimed), UNAVAILABLE
   */
  claimAddress(claim: ClaimRequest, signal?: AbortSignal): Promise<Claim>;
  /** Writes the owner's answer. Returns false if the claim has been deleted in the meantime. */
  answerClaim(claim: Claim, answer: { granted: true } | { granted: false; why: string }): Promise<boolean>;
  /**
   * Writes a granted claim back after a loss. Returns whether it wrote.
   * @param from who has overwritten it without a release, and loses it again
   * @throws WeftError ALREADY_EXISTS if another node has the address now; UNAVAILABLE
   */
  restoreClaim(claim: Claim, from?: ClaimHolder): Promise<boolean>;
  deleteClaim(network: string, ip: string, endpoint: string): Promise<void>;

  /** Adds a name to a network, or addresses to an existing name. @throws WeftError NOT_FOUND, UNAVAILABLE */
  addName(name: { network: string; name: string; ips: readonly IpAddress[] }): Promise<OwnName>;
  /**
   * Deletes addresses of a name, and the name with the last of them; all of them if none is given.
   * @throws WeftError NOT_FOUND, UNAVAILABLE
   */
  removeName(name: { network: string; name: string; ips: readonly IpAddress[] }): Promise<void>;

  /**
   * Writes a policy that does not exist; one that allows the same is answered as it is.
   * @throws WeftError ALREADY_EXISTS for one of the name that allows something else; UNAVAILABLE
   */
  createPolicy(policy: Policy): Promise<Policy>;
  /** @throws WeftError NOT_FOUND, UNAVAILABLE */
  removePolicy(name: string): Promise<void>;

  /**
   * Writes the node's record and keeps its life lease until stopped, through every outage.
   * A second instance of a living name is reported by `onConflict`, once, and not written. One on another host stays
   * away until the first's record is deleted (removeNode), or until a new process announces it while the first is not
   * alive. A node that was removed by force while it ran stays away until a new process announces it.
   */
  announce(node: () => NodeRecord, options: AnnounceOptions): Announcement;
  /**
   * Nothing is written under a name that another host has: acquireLease, putEndpoint, claimAddress and restoreClaim check
   * this first. @throws WeftError FAILED_PRECONDITION if a node announced here stays away from its name
   */
  checkName(): void;
  /** Removes the node with its leases, endpoints and claims, writes the tombstone. @throws NOT_FOUND, FAILED_PRECONDITION */
  removeNode(name: string, options: { force: boolean }): Promise<void>;

  /** Remaining seconds of the etcd leases of these; absent for reservations and ended leases. */
  leaseTimes(leases: readonly StoredLease[]): Promise<Map<StoredLease, number>>;

  /** Runs for election and calls `lead` as leader, with a signal that aborts when the leadership ends. */
  campaign(
    name: string,
    id: string,
    lead: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void>;

  close(): Promise<void>;
}

export interface FollowedNetwork {
  /** Settles when the view has its containers. @throws the signal's reason */
  listed(signal: AbortSignal): Promise<void>;
  /** They leave the view, as if they were deleted, unless somebody else has asked for them. */
  end(): void;
}

export interface AnnounceOptions {
  /** Of the life lease. */
  ttlSeconds: number;
  onConflict: (other: { instance: string; publicIp: string }) => void;
  /** Nothing is written before this has settled, but checkName counts; absent: at once. */
  after?: Promise<void>;
}

export interface Announcement {
  /** Writes the record again, after a change of it. */
  refresh(): void;
  /** Revokes the life lease: the node is down at once. */
  stop(): Promise<void>;
}
