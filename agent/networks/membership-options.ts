// What memberships are given, and what they need of the node's endpoints.
import type { IpNetwork } from '../../core/address.js';
import type { Underlay } from '../../core/compile.js';
import type { ControlAddress } from '../../core/firewall.js';
import type { Network } from '../../core/network.js';
import type { Logger } from '../../daemon/log.js';
import type { LeaseRequest, Store } from '../../store/store.js';
import type { Problems } from '../health/index.js';
import type { Kernel } from '../kernel/index.js';
import type { Reconciler } from '../reconcile/index.js';
import type { State } from '../state/index.js';
import type { PreviousSubnet } from './subnet-leases.js';

/** Told when this node has joined or left a network. */
export type MembershipHappening = (reason: 'joined' | 'left', network: string, message: string) => void;

export interface MembershipsOptions {
  kernel: Kernel;
  store: Store;
  reconciler: Reconciler;
  state: State;
  log: Logger;
  problems: Problems;
  node: string;
  instance: string;
  /** Where the subnet.env files are; undefined: there are none. */
  runDir: string | undefined;
  /** Whether containers ask this node for names. */
  servesNames?: boolean;
  subnetTtlSeconds: number;
  underlay: () => Underlay;
  /** Whether this node has another network at the addresses of a network that it is not on. */
  keepsOut?: (network: Network) => boolean;
  /** Whether flannelds may be nodes of its networks; absent: they may. */
  flannel?: boolean;
  /** Networks whose bridge and gateway are another program's here; absent: none. */
  subnetOnly?: readonly string[];
  /** What containers must not reach; absent: nothing. */
  control?: () => readonly ControlAddress[];
  /** Connections that a container may have; absent: any number. */
  maxConnections?: number | undefined;
  /** Milliseconds to the first retry of a subnet that could not be taken. */
  leaseRetryMs?: number;
  onMembership?: MembershipHappening;
}

export interface JoinOptions {
  /** This subnet and no other. */
  wanted?: LeaseRequest['wanted'];
  /** What the node had, where only its containers remember. */
  previous?: PreviousSubnet;
  /** The node was on it before: routes of the host do not keep it out. */
  again?: boolean;
  /** Ends the wait for a subnet. */
  signal?: AbortSignal | undefined;
  /** Not for a container: also a network whose bridge is another program's here. */
  withoutBridge?: true;
}

/** What memberships need of the node's endpoints. */
export interface MembershipListener {
  /** The network has been compiled anew: its endpoints must be, too. */
  changed(network: string): Promise<void>;
  /** The node has left the network: its endpoints end. */
  left(network: string): Promise<void>;
  /** Whether the network has endpoints on this node, with addresses of `within` where it is given. */
  isUsed(network: string, within?: IpNetwork): boolean;
  /** Why an address of this node's subnet cannot be given to another node's endpoint, or undefined. */
  refusal(network: string, ip: string, endpoint: string): string | undefined;
}
