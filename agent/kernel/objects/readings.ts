// What rtnetlink tells, read but not yet sorted into kernel objects.
import type { ActualObject, LinkObject } from '../../../core/objects/index.js';
import type { NamespaceRole } from '../kernel.js';
import type { Message, Request } from '../netlink-message.js';

/** A link as the kernel has it. */
export interface KernelLink {
  index: number;
  name: string;
  up: boolean;
  /** Frames can leave by it: the cable is in, and the other end is up. */
  running: boolean;
  loopback: boolean;
  /** Its addresses are MAC addresses, and it is no loopback. */
  ethernet: boolean;
  mtu: number;
  mac: string;
  masterIndex: number;
  /** What a link of a VLAN, a macvlan and the like lie on. */
  baseIndex: number;
  /** Of a bridge's port: whether frames go back by it. */
  hairpin: boolean;
  kind: string;
  /** Its group is weft's mark; on the node a link is weft's only with a name or an alias of weft's, too. */
  marked: boolean;
  owned: boolean;
  object: LinkObject | undefined;
}

/** What decoding objects on links needs to know of them. */
export interface LinkLookup {
  byIndex(index: number): KernelLink | undefined;
  /** Whether the kernel keeps marks on addresses (IFA_PROTO, Linux 5.18). Without them, names of links decide. */
  marksAddresses: boolean;
  role: NamespaceRole;
}

export interface DecodedAddress {
  link: KernelLink;
  text: string;
  global: boolean;
  marked: boolean;
  hasProtocol: boolean;
  /** It has no end: not a router's advertisement, nor DHCPv6, made it. */
  permanent: boolean;
}

export interface DecodedRoute {
  actual: ActualObject;
  metric: number;
  isDefault: boolean;
  family: 4 | 6;
  /** It came with a router's advertisement. */
  advertised: boolean;
  link: KernelLink | undefined;
}

export interface BridgeVlanEntry {
  vlan: number;
  pvid: boolean;
  untagged: boolean;
}

/** One look at a namespace, from which every kind takes its objects. */
export interface View {
  role: NamespaceRole;
  links: ReadonlyMap<number, KernelLink>;
  lookup: LinkLookup;
  addresses: readonly DecodedAddress[];
  routes: readonly DecodedRoute[];
  /** By the index of each port of a bridge that tells VLANs apart, and of the bridge. */
  vlans: ReadonlyMap<number, readonly BridgeVlanEntry[]>;
  /** Settings that are asked for. */
  sysctls: Iterable<string>;
  /** NICs that were lent to bridges, or were about to be. */
  lent: readonly { link: string; done: boolean }[];
  dump: (request: Request) => Message[];
  inside: <T>(work: () => T) => T;
}
