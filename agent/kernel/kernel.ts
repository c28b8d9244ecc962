// Interface between weft's logic and the Linux kernel.
//
// linux.ts implements it; tests of the logic run against a small fake that keeps the same contract.
import type { Need } from '../../core/needs.js';
import type { Family } from '../../core/address.js';
import type { Firewall, FirewallChange, FirewallItem, FirewallPort } from '../../core/firewall.js';
import type { HostRoute } from '../../core/host-routes.js';
import type { Actual, ObjectKey } from '../../core/objects/index.js';
import type { Step } from '../../core/plan.js';
import type { Problem } from '../../core/problem.js';
import type { Sandbox } from '../../core/records.js';
import type { PumpCounters } from './pump/counters.js';
import type { TraceFilter } from './tracing/probe.js';
import type { NamespaceTrace } from './tracing/types.js';

/** A step that the kernel refused. */
export interface StepFailure {
  step: Step;
  /** An errno's name, followed by the kernel's extended error where it gave one. */
  errno: string;
  message: string;
}

/** Which namespace is observed: the node's or a container's. */
export type NamespaceRole = 'node' | 'container';

/** An address that a link of the namespace answers for. */
export interface Announcement {
  link: string;
  ip: string;
}

/** A socket that takes connections, or datagrams of anyone. */
export interface Listener {
  protocol: 'tcp' | 'udp';
  port: number;
  family: Family;
  /** At every address, at one, or at the loopback only. */
  reach: 'any' | 'address' | 'loopback';
}

/** One network namespace. */
export interface KernelNamespace {
  readonly role: NamespaceRole;
  /**
   * Reads everything of the kinds that weft describes: its own objects, and unowned ones that could be in the way. Reads exactly
   * the named sysctls, with value '' where one does not exist.
   */
  observe(sysctls: Iterable<string>): Promise<Actual>;
  /** Names of all links (cheap). */
  linkNames(): Promise<Set<string>>;
  /**
   * Applies the steps in order, in as few round trips as possible, and returns the failures. A failure does not stop later steps,
   * except those that depend on it. An unowned link is neither changed nor deleted, whatever its name, and nothing is put on it
   * (EEXIST).
   */
  apply(steps: readonly Step[], peers?: PeerNamespaces): Promise<StepFailure[]>;
  /**
   * Tells the neighbours on each link that its link address answers for the address from now on. Links that do not exist, and
   * tunnels, are left out. @throws Error where nothing can be sent
   */
  announce(addresses: readonly Announcement[]): void;
  /** Sockets of its processes that listen. */
  listeners(): Listener[];
  /** Whether a UDP question from here is answered within a second, by whatever message. */
  ask(ip: string, port: number, question: Buffer): Promise<boolean>;
  /** Sees the packets of a trace from now on, until it is closed, which must be before the namespace is. @throws SystemError */
  trace(filter: TraceFilter): Promise<NamespaceTrace>;
  /** Closes the sockets; an open namespace outlives its container. */
  close(): void;
}

/** Where the other ends of veth pairs are created: an open container namespace by the host-side link name. */
export type PeerNamespaces = ReadonlyMap<string, KernelNamespace>;

/** A change in the node's namespace. */
export type KernelEvent =
  | {
      kind: 'changed';
      objects: Actual['objects'];
      gone: ReadonlySet<ObjectKey>;
      linksGone: ReadonlySet<string>;
    }
  /** A change that is not reported in detail. */
  | { kind: 'unknown' }
  /** Notifications were lost: anything may have changed. */
  | { kind: 'lost' }
  /** A change of a link, address or default route that the underlay, or the MTU of a parent link, may depend on. */
  | { kind: 'underlay' }
  /** A change of a route that is not weft's. */
  | { kind: 'routes' }
  | { kind: 'firewall' };

export interface UnderlayLink {
  name: string;
  mtu: number;
  /** Operationally up: there is a carrier, and the other end is up. */
  running: boolean;
  /** The NIC that is a port of this link, a bridge of weft's that has the NIC's addresses. */
  port?: string;
  loopback?: true;
  /** Global addresses with prefix length, of each family the oldest first. */
  addresses: string[];
  /** What is wrong with some of them. */
  flaws?: Record<string, AddressFlaw>;
  /** Destinations that unowned routes reach through a router on the link, default routes included. */
  routers?: { to: string; via: string }[];
}

/**
 * Why other nodes should not be told an address: its link is administratively down, which a link without a carrier is not; or,
 * of IPv6, it is on its way out (RFC 4862 §5.5.4) or changes every day (RFC 8981), or duplicate address detection goes on or
 * has found another host with it (RFC 4862 §5.4).
 */
export type AddressFlaw = 'down' | 'deprecated' | 'temporary' | 'tentative' | 'duplicate';

/** A link that can be a network's parent link. */
export interface ParentLink {
  name: string;
  isBridge: boolean;
  /** Of a bridge: vlan_filtering is on. */
  filtersVlans: boolean;
  isEthernet: boolean;
  up: boolean;
  mac: string;
  mtu: number;
  /** Its master. */
  master?: string;
  /** VLAN devices on it, which take the frames of their VLANs before any bridge sees them. */
  vlans: { name: string; vlan: number }[];
}

/** A capability that not every kernel has and that networks of some drivers need. */
export interface Capability {
  name: Need;
  available: boolean;
  /** What is missing; empty where nothing is. */
  why: string;
}

export interface FirewallReport {
  /** What was repaired, as text; empty where nothing had drifted. */
  repaired: string[];
  problems: Problem[];
}

export type FirewallDrops = readonly { reason: string; packets: number }[];

export interface FirewallDriver {
  readonly kind: 'nftables' | 'iptables';
  /** Why it does not judge what containers send (ContainerPort), nor count it; absent: it does. */
  readonly noBridge?: string | undefined;
  /**
   * What ensure would put right, in words: `X was missing`, `X is not wanted`, or what is wrong with X. Writes nothing.
   * @throws WeftError FAILED_PRECONDITION where the rules cannot be read
   */
  difference(desired: Firewall): Promise<string[]>;
  /**
   * Compares and, where anything differs, replaces weft's own rules in one transaction.
   * @param news these items alone were added and removed since the last call: they cost themselves, as with changeItems
   */
  ensure(desired: Firewall, news?: FirewallChange): Promise<FirewallReport>;
  /**
   * As ensure, where only these items were added and removed since the last call; costs only those, as long as no other
   * program has changed the rules.
   */
  changeItems(
    desired: Firewall,
    added: readonly FirewallItem[],
    removed: readonly FirewallItem[],
  ): Promise<FirewallReport>;
  /** Packets dropped of containers and of machines that are no members, by reason. @throws WeftError */
  drops(): FirewallDrops;
  /** Packets dropped of the container behind a link of the node, by reason. @throws WeftError */
  losses(link: string): FirewallDrops;
  /** Packets to closed containers that no policy allowed, by the container's address. @throws WeftError */
  denials(): readonly { ip: string; packets: number }[];
  /** Deletes every rule, chain and table of weft's. */
  remove(): Promise<void>;
  close(): void;
}

/** An echo request; it is never fragmented. */
export interface Echo {
  ip: string;
  /** Bytes of the IP packet. Absent: 76, or 96 of IPv6. */
  size?: number;
  /** 16 hexadecimal digits by which its receiver knows it. */
  tag?: string;
}

/** Where the kernel sends packets to an address. */
export interface NextHop {
  /** The address itself, or that of a router. */
  ip: string;
  link: string;
  /** The link address of a permanent entry, which the kernel never asks for. */
  permanent?: string;
}

/** What the kernel remembers of neighbours in one family, of all its namespaces together. */
export interface NeighbourTable {
  family: Family;
  /** Without permanent entries. */
  entries: number;
  /** gc_thresh3: with more of them no further neighbour is reached. */
  most: number;
  /** Those of the node, read where the table is half full. */
  known?: ReadonlySet<string>;
}

/** Of a link of the node, since it was made. */
export interface LinkCounters {
  receivedPackets: number;
  receivedBytes: number;
  sentPackets: number;
  sentBytes: number;
  /** Packets, in both directions. */
  dropped: number;
}

/** A packet as a link carried it. */
export interface CapturedFrame {
  link: string;
  /** Since 1970. */
  microseconds: number;
  bytes: Buffer;
}

export interface PacketCapture {
  /** What has arrived since the last call, and how many packets there was no room for. */
  read(): { frames: CapturedFrame[]; missed: number };
  close(): void;
}

/** A temporary namespace that tests connections. */
export interface TestNamespace {
  /** As a TARGET's `netns:` has it. */
  readonly path: string;
  /** From now on it answers there by TCP and UDP with what it is sent. @throws SystemError */
  listen(port: number): void;
  /** By TCP. @returns what came back, or why nothing did */
  connect(ip: string, port: number, timeoutMs: number): Promise<Buffer | string>;
  /** By UDP. @returns as connect */
  ask(ip: string, port: number, timeoutMs: number, question?: Buffer): Promise<Buffer | string>;
  /** See Kernel.ping. @param size bytes of the packet */
  ping(ip: string, size: number, timeoutMs: number): Promise<number | undefined>;
  /** Ends it. */
  close(): void;
}

/** A reserved port of the node: no process can bind it while it is held. */
export interface PortReservation {
  release(): void;
}

export interface Kernel {
  readonly node: KernelNamespace;
  readonly firewall: FirewallDriver;
  /**
   * Reserves a port of the node by binding it; nothing listens on it. `taken`: a socket has it; `away`: the address is not one of
   * this node's, or the node has no addresses of that family.
   * @throws WeftError FAILED_PRECONDITION for any other error of the kernel
   */
  reservePort(ip: string, port: number, protocol: 'tcp' | 'udp'): PortReservation | 'taken' | 'away';
  /**
   * Opens the network namespace at a path (/run/netns/c1, /proc/4711/ns/net). Close it after use.
   * @throws WeftError NOT_FOUND where the path does not exist or is no network namespace; any other code means that it cannot
   * be opened now, and not that it is absent
   */
  openNamespace(path: string): Promise<{ namespace: KernelNamespace; sandbox: Sandbox; isNode: boolean }>;
  /**
   * The identity of the namespace at a path without keeping it open; undefined where it does not exist.
   * @throws WeftError where it cannot be opened now
   */
  identify(path: string): Sandbox | undefined;
  /** Links that could carry the underlay. */
  underlayLinks(): Promise<UnderlayLink[]>;
  /**
   * The address and link by which the kernel would send to a public address now, by all its routing rules; undefined where it
   * has no route there. No packet is sent.
   */
  sendsFrom(family: Family): { ip: string; link: string } | undefined;
  /**
   * Links that have IPv6 addresses or routes from router advertisements and ignore further ones, because the host forwards and
   * their accept_ra is 1.
   */
  linksIgnoringRa(): Promise<string[]>;
  /**
   * Routes of the node's tables that its rules lead to, without default routes; also those that drop packets, and to its own
   * addresses where no route of their LAN stands for them.
   */
  routes(): Promise<HostRoute[]>;
  /** Families whose bridged packets iptables and nftables see: br_netfilter is loaded and enabled. */
  filteredBridges(): Family[];
  /** A link by its name, as a parent link; undefined where it does not exist. */
  parentLink(name: string): Promise<ParentLink | undefined>;
  /** Times of the last WireGuard handshake, in milliseconds since the epoch, by the peer's public key. */
  handshakes(): ReadonlyMap<string, number>;
  /** What the pumps of the node's udp networks have done, by link. */
  pumpCounters(): ReadonlyMap<string, PumpCounters>;
  /** By the name of the link. */
  linkCounters(): ReadonlyMap<string, LinkCounters>;
  /**
   * Reads the packets of links of the node until it is closed; links that do not exist are left out.
   * @returns `frames`: by link, whether its packets begin with an Ethernet header. @throws Error where it is refused
   */
  capture(links: readonly string[]): { capture: PacketCapture; frames: ReadonlyMap<string, boolean> };
  /** A new one, which has only a loopback that is down. @throws SystemError */
  openTestNamespace(): TestNamespace;
  /** Whether it can carry a udp network itself: it has FOU and nftables, and no other tunnel for IP in IP is in the way. */
  carriesUdp(): boolean;
  /** Optional capabilities of this kernel, probed in a temporary namespace. */
  capabilities(): readonly Capability[];
  /** Calls back on every change in the node's namespace until stopped. */
  watch(listener: (event: KernelEvent) => void): () => void;
  /**
   * Round-trip times in milliseconds by ICMP echo, measured by the kernel's receive timestamps; undefined where no reply arrived
   * in time.
   */
  ping(echoes: readonly Echo[], timeoutMs: number): Promise<(number | undefined)[]>;
  /** Tags of echo requests that have arrived from other nodes since the last call. */
  heardTags(): string[];
  /** Undefined where no route leads to the address. */
  nextHop(ip: string): NextHop | undefined;
  /** Link addresses of other hosts that answer for an address on a link (ARP, neighbour discovery). */
  whoHas(link: string, ip: string): Promise<string[]>;
  neighbourTables(): NeighbourTable[];
  /**
   * Makes UDP flows follow the added and removed ports: flows that lead elsewhere now start anew with their next packet.
   * Unrelated flows stay, and so do all where the kernel does not list them.
   */
  flushConntrack(added: readonly FirewallPort[], removed: readonly FirewallPort[]): void;
  /**
   * Resolves an IPv6 neighbour that the kernel cannot resolve, as this host has its address too (flaw `duplicate`), and tells
   * the kernel. @returns whether it answered
   */
  solicitNeighbour(link: string, ip: string): Promise<boolean>;
  /** Makes the kernel resolve neighbours that it could not reach through a node's link again with the next packet. */
  refreshNeighbours(link: string): void;
  close(): void;
}
