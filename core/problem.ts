// A problem: its object, the cause, the next step, and what follows from it.
import type { Family } from './address.js';

/** A path from this node that is not ok. */
export interface BrokenPath {
  /** At its other end. */
  node: string;
  network: string;
  family: Family;
  /** Whether the other node's probes arrive; absent if unknown. */
  hears?: boolean | undefined;
  /** Where the tunnel alone is blocked: its UDP ports. */
  tunnelPorts?: readonly number[];
}

export interface Problem {
  what: string;
  why: string;
  fix: string;
  /** What follows from it, each in one line. */
  consequences?: string[];
  /** The paths that it is about, by which a controller counts each of them once. */
  broken?: BrokenPath[];
  /** It is the cause of them, and not only what is seen of them. */
  isCause?: boolean;
  /** Ports of tunnels that a firewall of this host closes: paths that are blocked there follow from it. */
  closes?: { family: Family; port: number }[];
}
