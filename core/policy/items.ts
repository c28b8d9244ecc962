// What a node enforces policies by: classes of addresses, what they may send each other, and ports of containers.
//
// Each is a fact by itself, which comes and goes at its own cost.
import type { ClassNumber } from './classes.js';

export type PolicyItem = PolicyAddress | PolicyVerdict | PolicyPort | PolicyWay | PolicyPublished;

export interface PolicyAddress {
  policy: 'address';
  ip: string;
  /** As a source. */
  peer?: ClassNumber;
  /** As a target that is closed: a container of this node, or any node. */
  target?: ClassNumber;
  /** A node has it: what containers of this node send there is judged here. */
  host?: true;
}

/** What is allowed from one class to another. */
export interface PolicyVerdict {
  policy: 'verdict';
  peer: ClassNumber;
  target: ClassNumber;
  /** Absent: everything. */
  ports?: { protocol: 'tcp' | 'udp'; first: number; last: number };
}

/** A container's port on a bridge: what concerns closed containers passes the node's own stack, and not the bridge alone. */
export interface PolicyPort {
  policy: 'port';
  link: string;
  /** The MAC address of the bridge. */
  gateway: string;
  /** Its container is closed. */
  closed: boolean;
}

/** A bridge by which containers reach this node, where policies close nodes. */
export interface PolicyWay {
  policy: 'way';
  link: string;
  /** Of the addresses of this node that are no items; absent: they are open. */
  target?: ClassNumber;
}

/** A port of a node that leads to a container, whose own policies count. */
export interface PolicyPublished {
  policy: 'published';
  ip: string;
  protocol: 'tcp' | 'udp';
  port: number;
}

/** What of policies is the same for all containers. */
export interface PolicyRules {
  /** Classes of sources by address alone. */
  ranges: readonly { family: 4 | 6; first: string; last: string; peer: ClassNumber }[];
  /** Some policy's target is a node. */
  closesHosts?: true;
}

/** An item that comes, changes or, undefined, goes. */
export type PolicyChange = readonly [key: string, item: PolicyItem | undefined];
