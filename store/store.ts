// The cluster as etcd has it: what the rest of weft may ask of the store. etcd-store.ts is the real one.
//
// Reading is local: a replica follows etcd (one list, one watch) and decodes every record once; `view` is always a whole
// picture, of the revision it names. Writing goes straight to etcd, in transactions.
import type { IpAddress, IpNetwork } from '../core/address.js';
import type { LeaseData } from '../core/backends/types.js';
import type { NetworkSpec } from '../core/network.js';
import type {
  BadRecord,
  Claim,
  Endpoint,
  Lease,
  Network,
  NodeRecord,
  OwnName,
  Removal,
} from '../core/records.js';

/** Everything that is known, by its key fields. Reading it never waits. */
export interface View {
  readonly networks: ReadonlyMap<string, Network>;
  /** By network, then by the text of the IPv4 subnet. */
  readonly leases: ReadonlyMap<string, ReadonlyMap<string, StoredLease>>;
  /** By network, then by id. */
  readonly endpoints: ReadonlyMap<string, ReadonlyMap<string, Endpoint>>;
  /** By network, then by the text of the address. */
  readonly claims: ReadonlyMap<string, ReadonlyMap<string, Claim>>;
  /** By network, then by name: what people have added. */
  readonly names: ReadonlyMap<string, ReadonlyMap<string, OwnName>>;
  readonly nodes: ReadonlyMap<string, NodeRecord>;
  /** Nodes whose life lease is there, with the instance that holds it. */
  readonly alive: ReadonlyMap<string, string>;
  /** By `network NAME` and `node NAME`. */
  readonly removals: ReadonlyMap<string, Removal>;
  /** By key: what could not be read. A record that was readable before keeps its last readable state in the maps above. */
  readonly bad: ReadonlyMap<string, BadRecord>;
}

export interface StoredLease extends Lease {
  /** The etcd lease that it hangs on, '0' where there is none. */
  etcdLease: string;
}

/** One change of the view; `after` is absent where the record went; `lost`: with etcd's past, by nobody's wish. */
export type Change =
  | { kind: 'network'; name: string; before?: Network; after?: Network }
  | { kind: 'lease'; network: string; subnet: string; before?: StoredLease; after?: StoredLease; lost?: true }
  | { kind: 'endpoint'; network: string; id: string; before?: Endpoint; after?: Endpoint }
  | { kind: 'ownName'; network: string; name: string; before?: OwnName; after?: OwnName }
  | { kind: 'claim'; network: string; ip: string; before?: Claim; after?: Claim; lost?: true }
  | { kind: 'node'; name: string; before?: NodeRecord; after?: NodeRecord }
  | { kind: 'alive'; name: string; before?: string; after?: string }
  | { kind: 'removal'; key: string; before?: Removal; after?: Removal }
  | { kind: 'bad'; key: string; before?: BadRecord; after?: BadRecord };

export interface StoreState {
  connected: boolean;
  since: Date;
  /** Of the newest answer. */
  revision: number;
  /** How often everything was listed anew after the first time (compaction, restore). */
  resyncs: number;
  /** When etcd was last found with another past than before: restored from a copy, emptied, or replaced. */
  restored?: Date;
  /** Why it is not connected. */
  error?: string;
}

/** What can be changed of a network. */
export interface NetworkChange {
  masquerade?: boolean;
  /** Networks that it is to be routed with, and no more. */
  addRoutes?: readonly string[];
  removeRoutes?: readonly string[];
}

/** Who asks for an address outside of its node's subnet. */
export interface ClaimRequest {
  network: Network;
  ip: IpAddress;
  node: string;
  endpoint: string;
  /** Why the address is somebody's although etcd, which lost its past, has no record that says so; asked last. */
  retainedFor?: () => string | undefined;
}

/** Who asks for a subnet. */
export interface LeaseRequest {
  network: Network;
  node: string;
  instance: string;
  publicIp: IpAddress;
  publicIp6?: IpAddress;
  /** What the network's backend publishes of this node's end, by family. */
  data?: LeaseData;
  /** What the node had last time, and takes again if it can. */
  previous?: { subnet: IpNetwork; subnet6?: IpNetwork };
  /** This one and no other. */
  wanted?: { subnet: IpNetwork; subnet6?: IpNetwork };
  /** Since when the node has had its previous subnet. */
  since?: string;
  /** Containers run in the previous subnet: it is taken back from a node of weft's that has had it for a shorter time. */
  inUse?: boolean;
  ttlSeconds: number;
}

export interface Store {
  readonly view: View;
  readonly state: StoreState;
  /** Settles when the first full list has arrived. @throws the signal's reason */
  synced(signal?: AbortSignal): Promise<void>;
  readonly isSynced: boolean;
  /** Called after the view has changed, once for each batch that belongs together, in etcd's order. */
  subscribe(listener: (changes: readonly Change[]) => void): () => void;
  onState(listener: (state: StoreState) => void): () => void;
  /** This machine's address or way changed: what goes over the old one is given up at once, not when it stays silent. */
  reconnect(): void;

  /**
   * Checks it against every other network and the underlay addresses of every node, chooses a VNI, and writes it, in one
   * transaction. @throws WeftError INVALID_ARGUMENT, ALREADY_EXISTS, FAILED_PRECONDITION, UNAVAILABLE
   */
  createNetwork(spec: NetworkSpec): Promise<Network>;
  /** What createNetwork would make of it as things are; the VNI is 0 where a free one would be chosen. @throws as it does */
  checkNetwork(spec: NetworkSpec): Network;
  /**
   * Takes the config, every subnet, endpoint and claim away and leaves the tombstone, in one transaction.
   * @param options.unleased only where no node has a subnet in it
   * @throws WeftError NOT_FOUND; FAILED_PRECONDITION while endpoints are on it, unless forced
   */
  removeNetwork(name: string, options: { force: boolean; unleased?: boolean }): Promise<void>;
  /**
   * Changes a network that is there, in one transaction that nobody else's change gets lost in; what weft does not know of
   * its config stays. @throws WeftError NOT_FOUND, FAILED_PRECONDITION for a config that cannot be read
   */
  updateNetwork(name: string, change: NetworkChange): Promise<Network>;
  /**
   * Writes a config that was lost back, unless it is there or its removal was wanted. Answers whether it wrote. One that
   * this process has read is written as it was, with what weft does not know.
   * @param own whose subnet (`previous`) is written in the same transaction, so that nobody takes it between the two
   * @param had since when the node has been on the network, RFC 3339: an older removal was of another network of that name
   */
  restoreNetwork(network: Network, own?: LeaseRequest, had?: string): Promise<boolean>;

  /**
   * Takes a subnet, as flannel does: the lease with this node's public address (or instance id), then the previous one,
   * then one at random of the first hundred that are free; a lost race takes the next candidate. A previous one that is in
   * use comes before a lease of another subnet. Answers what is now in etcd. A reservation stays one.
   * @throws WeftError RESOURCE_EXHAUSTED; NOT_FOUND where the network has gone; FAILED_PRECONDITION where a living node of
   *   another instance has the same name or public address, or one of another name the same instance; UNAVAILABLE
   */
  acquireLease(request: LeaseRequest, signal?: AbortSignal): Promise<StoredLease>;
  /**
   * Says for two minutes that this node will take a subnet of a network that is still to come. Answers false where another
   * node says so. @throws WeftError UNAVAILABLE
   */
  proposeSubnet(whole: IpNetwork, subnet: IpNetwork, holder: string): Promise<boolean>;
  /**
   * A new etcd lease for the same subnet, as flannel renews; a key that was lost is written again. Nothing to do for a
   * reservation. @throws WeftError FAILED_PRECONDITION where somebody else has the subnet now; NOT_FOUND, UNAVAILABLE
   */
  renewLease(lease: StoredLease, ttlSeconds: number): Promise<StoredLease>;
  /** Gives it back; a reservation, and what somebody else has by now, stays. */
  releaseLease(lease: Lease): Promise<void>;

  /**
   * @param unique the name must be the only one in the network
   * @throws WeftError ALREADY_EXISTS naming the endpoint that has the name; NOT_FOUND where the network has gone
   */
  putEndpoint(endpoint: Endpoint, options: { unique: boolean }): Promise<void>;
  deleteEndpoint(network: string, id: string): Promise<void>;

  /**
   * Asks for an address outside the node's subnet, and waits for the owner's answer where the space is leased.
   * @throws WeftError FAILED_PRECONDITION (refused, a flanneld's, no answer, retained), ALREADY_EXISTS (claimed), UNAVAILABLE
   */
  claimAddress(claim: ClaimRequest, signal?: AbortSignal): Promise<Claim>;
  /** The owner's answer. Answers false where the claim has gone meanwhile. */
  answerClaim(claim: Claim, answer: { granted: true } | { granted: false; why: string }): Promise<boolean>;
  /**
   * Puts a claim that was granted back after a loss. Answers whether it wrote.
   * @throws WeftError ALREADY_EXISTS where another node has the address meanwhile; UNAVAILABLE
   */
  restoreClaim(claim: Claim): Promise<boolean>;
  deleteClaim(network: string, ip: string, endpoint: string): Promise<void>;

  /** Gives a network a name, or a name that it has more addresses. @throws WeftError NOT_FOUND, UNAVAILABLE */
  addName(name: { network: string; name: string; ips: readonly IpAddress[] }): Promise<OwnName>;
  /**
   * Takes addresses of a name away, and the name with the last of them; all of them where none is given.
   * @throws WeftError NOT_FOUND, UNAVAILABLE
   */
  removeName(name: { network: string; name: string; ips: readonly IpAddress[] }): Promise<void>;

  /**
   * Writes the node's record and keeps its life lease until stopped; comes back by itself after every outage.
   * A second instance of a name that is alive is told by `onConflict`, once, and not written. One of another host stays
   * away until the first's record is gone (removeNode), or until it is announced by a new process while the first is not
   * alive. A node that was removed by force while it ran stays away until it is announced by a new process.
   */
  announce(node: () => NodeRecord, options: AnnounceOptions): Announcement;
  /**
   * Nothing is written under a name that another host has: acquireLease, putEndpoint, claimAddress and restoreClaim ask
   * this first. @throws WeftError FAILED_PRECONDITION where a node that is announced here stays away from its name
   */
  checkName(): void;
  /** Removes the node with its leases, endpoints and claims, and leaves the tombstone. @throws NOT_FOUND, FAILED_PRECONDITION */
  removeNode(name: string, options: { force: boolean }): Promise<void>;

  /** Seconds that the etcd leases of these still have; absent for reservations and leases that are gone. */
  leaseTimes(leases: readonly StoredLease[]): Promise<Map<StoredLease, number>>;

  /** Runs for election and calls `lead` while it has it, with a signal that ends with the leadership. */
  campaign(
    name: string,
    id: string,
    lead: (signal: AbortSignal) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void>;

  close(): Promise<void>;
}

export interface AnnounceOptions {
  /** Of the life lease. */
  ttlSeconds: number;
  onConflict: (other: { instance: string; publicIp: string }) => void;
}

export interface Announcement {
  /** Writes the record again, after it changed. */
  refresh(): void;
  /** Gives the life lease back: the node is down at once. */
  stop(): Promise<void>;
}
