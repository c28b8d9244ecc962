// Kernel: what the rest of the agent may ask of Linux. The real one is linux.ts; tests
// of the logic run against a small fake that keeps the same contract.
import type { Need } from '../../core/needs.js';
import type { Family } from '../../core/address.js';
import type { Firewall, FirewallPort } from '../../core/firewall.js';
import type { Actual, ObjectKey } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import type { Sandbox } from '../../core/records.js';

/** A step that the kernel refused. */
export interface StepFailure {
  step: Step;
  /** What the kernel said: an errno's name, with the kernel's own sentence where it gave one. */
  errno: string;
  message: string;
}

/** What an observer sees: the node's own namespace or a container's. */
export type NamespaceRole = 'node' | 'container';

/** One network namespace. */
export interface KernelNamespace {
  readonly role: NamespaceRole;
  /**
   * Everything there that weft has words for: its own objects, and those of others that could be in the way. Reads
   * exactly the sysctls that are named, with value '' where one is not there.
   */
  observe(sysctls: Iterable<string>): Promise<Actual>;
  /** Names of all links (cheap). */
  linkNames(): Promise<Set<string>>;
  /**
   * Carries the steps out in order, in as few round trips as possible, and answers what failed. A failure does not stop
   * the steps after it, except those that cannot work without it. A link of somebody else's is neither changed nor deleted,
   * whatever its name, and nothing is put on it (EEXIST).
   */
  apply(steps: readonly Step[], peers?: PeerNamespaces): Promise<StepFailure[]>;
  /** Gives the sockets back; a namespace that is kept open outlives its container. */
  close(): void;
}

/** Where the other ends of veth pairs are made: an open container namespace by the host-side link name. */
export type PeerNamespaces = ReadonlyMap<string, KernelNamespace>;

/** Something changed in the node's namespace. */
export type KernelEvent =
  | {
      kind: 'changed';
      objects: Actual['objects'];
      gone: ReadonlySet<ObjectKey>;
      linksGone: ReadonlySet<string>;
    }
  /** Something changed that is not told in detail. */
  | { kind: 'unknown' }
  /** Notifications were lost: anything may have changed. */
  | { kind: 'lost' }
  /** A link, address or default route changed that the underlay may rest on. */
  | { kind: 'underlay' }
  | { kind: 'firewall' };

export interface UnderlayLink {
  name: string;
  mtu: number;
  /** Frames can leave by it: the cable is in, and the other end is up. */
  running: boolean;
  /** The NIC that became a port of it, of a bridge of weft's that has its addresses. */
  port?: string;
  /** Global addresses, first the primary ones, with prefix length. */
  addresses: string[];
  /** Whether a default route leaves through it: metric of the best one, by family. */
  defaultMetric4?: number;
  defaultMetric6?: number;
}

/** A link that a network may leave through. */
export interface ParentLink {
  name: string;
  isBridge: boolean;
  /** Of a bridge: vlan_filtering is on. */
  filtersVlans: boolean;
  isEthernet: boolean;
  up: boolean;
  mac: string;
  mtu: number;
  /** What it is a port of. */
  master?: string;
  /** Links of single VLANs on it, which take the frames of theirs before any bridge sees them. */
  vlans: { name: string; vlan: number }[];
}

/** Something that not every kernel has, and networks of some drivers need. */
export interface Capability {
  name: Need;
  available: boolean;
  /** What is missing; empty where nothing is. */
  why: string;
}

export interface FirewallReport {
  /** What was put right, in words; empty where everything was in place. */
  repaired: string[];
  problems: { what: string; why: string; fix: string }[];
}

export interface FirewallDriver {
  readonly kind: 'nftables' | 'iptables';
  /**
   * What ensure would put right, in words: `X was missing`, `X is not wanted`, or what is wrong with X. Writes nothing.
   * @throws WeftError FAILED_PRECONDITION where the rules cannot be read
   */
  difference(desired: Firewall): Promise<string[]>;
  /** Compares and, where anything differs, replaces weft's own rules in one transaction. */
  ensure(desired: Firewall): Promise<FirewallReport>;
  /**
   * As ensure, where since the last call only these ports have come and gone; costs no more than they, as long as nobody
   * else has changed anything.
   */
  changePorts(
    desired: Firewall,
    added: readonly FirewallPort[],
    removed: readonly FirewallPort[],
  ): Promise<FirewallReport>;
  /** Takes every rule, chain and table of weft's away. */
  remove(): Promise<void>;
  close(): void;
}

/** A port of the node that no process can take while it is held. */
export interface PortReservation {
  release(): void;
}

export interface Kernel {
  readonly node: KernelNamespace;
  readonly firewall: FirewallDriver;
  /**
   * Takes a port of the node, so that nobody else can; nothing listens on it. `taken`: a socket has it; `away`: the
   * address is not one of this node's, or it has no addresses of that family.
   * @throws WeftError FAILED_PRECONDITION for anything else that the kernel has against it
   */
  reservePort(ip: string, port: number, protocol: 'tcp' | 'udp'): PortReservation | 'taken' | 'away';
  /**
   * Opens the network namespace at a path (/run/netns/c1, /proc/4711/ns/net). Close it after use.
   * @throws WeftError NOT_FOUND where the path is gone or no network namespace; any other code means that it cannot be
   * opened now, and says nothing about whether it is there
   */
  openNamespace(path: string): Promise<{ namespace: KernelNamespace; sandbox: Sandbox; isNode: boolean }>;
  /**
   * The identity of the namespace at a path without keeping it open; undefined where it is gone.
   * @throws WeftError where it cannot be opened now
   */
  identify(path: string): Sandbox | undefined;
  /** Links that could carry the underlay. */
  underlayLinks(): Promise<UnderlayLink[]>;
  /**
   * Links that have IPv6 addresses or routes from routers' advertisements, and do not listen to these any more, because
   * the host forwards and their accept_ra is 1.
   */
  linksIgnoringRa(): Promise<string[]>;
  /** Destinations of every unicast route of the node, default routes left out. */
  routes(): Promise<string[]>;
  /** Families whose packets iptables and nftables see also while they are bridged: br_netfilter is loaded, and on. */
  filteredBridges(): Family[];
  /** A link by its name, as a parent; undefined where there is none. */
  parentLink(name: string): Promise<ParentLink | undefined>;
  /** What this kernel can, found out by trying it where it hurts nobody. */
  capabilities(): readonly Capability[];
  /** Calls back on every change in the node's namespace until it is told to stop. */
  watch(listener: (event: KernelEvent) => void): () => void;
  /**
   * Round-trip times in milliseconds by ICMP echo, measured by the kernel's own receive time stamps; undefined where no
   * answer came within the time.
   */
  ping(ips: readonly string[], timeoutMs: number): Promise<(number | undefined)[]>;
  /**
   * Flows of UDP that are under way follow the ports that have come and gone: those that lead elsewhere now begin anew with
   * their next packet. Those of others, and of a kernel that shows none, go on.
   */
  flushConntrack(added: readonly FirewallPort[], removed: readonly FirewallPort[]): void;
  /** Neighbours that the kernel could not reach by a link of the node are asked for anew with the next packet. */
  refreshNeighbours(link: string): void;
  close(): void;
}
