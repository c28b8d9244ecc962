// A trace in one network namespace, as the rest of the agent sees it.
import type { TracePacket } from './probe.js';
import type { RuleDrop } from './rule-trace.js';
import type { SeenPacket } from './sighting.js';

export interface TraceLink {
  index: number;
  name: string;
  up: boolean;
  /** There is a carrier. */
  running: boolean;
  mtu: number;
  mac: string;
  ethernet: boolean;
  /** As rtnetlink has it: veth, bridge, vxlan, …; empty for a NIC. */
  kind: string;
  /** The bridge that it is a port of. */
  master?: string;
}

/** The way of a packet to an address; or the name of the errno by which the kernel refuses it one. */
export type TraceRoute =
  { errno: string } | { errno?: undefined; link: string; isLocal: boolean; via?: string; source?: string };

export interface TraceNeighbour {
  link: string;
  ip: string;
  mac?: string;
  /** Somebody has answered for it lately, or it is fixed. */
  isKnown: boolean;
  isPermanent: boolean;
  /** Where a VXLAN device sends frames for it. */
  tunnel?: string;
}

/** A packet of the trace at a point of the namespace. */
export interface TraceSighting extends SeenPacket {
  /** Empty: it was delivered to the namespace itself, behind the last rule. */
  link: string;
  /** Sent by the link, and not received. */
  out: boolean;
}

export interface NamespaceTrace {
  /** What cannot be seen here, with the reason. */
  readonly blind: readonly string[];
  /** What has come since the last call. */
  sightings(): TraceSighting[];
  /** What nftables says has dropped a packet of the trace. */
  drops(): Promise<RuleDrop[]>;
  /** Rules of iptables-legacy that have dropped any packets since the beginning, as one writes them. */
  countedDrops(): Promise<string[]>;
  links(): TraceLink[];
  /** @param received by which link, and from whom; absent: the namespace itself sends the packet */
  route(to: string, received?: { link: string; from: string }): TraceRoute;
  neighbours(): TraceNeighbour[];
  /** A source port that is nobody's until the end; 0 where the protocol has none. @throws SystemError */
  takePort(source: string): number;
  /** @returns the name of an errno; undefined: the kernel has taken it */
  send(packet: TracePacket): string | undefined;
  /** The same for what a UDP port would answer. @param packet from the port */
  answer(packet: TracePacket): string | undefined;
  close(): void;
}
