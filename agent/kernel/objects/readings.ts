// Decoded rtnetlink messages, before they become kernel objects.
import type { ActualObject, LinkObject } from '../../../core/objects/index.js';
import type { AddressFlaw, NamespaceRole } from '../kernel.js';
import type { Message, Request } from '../netlink-message.js';
import type { Pumps } from '../pump/processes.js';
import type { WireguardDevice } from '../wireguard.js';

/** A link as the kernel has it. */
export interface KernelLink {
  index: number;
  name: string;
  up: boolean;
  /** Operationally up: there is a carrier, and the other end is up. */
  running: boolean;
  loopback: boolean;
  /** An Ethernet-like device with MAC addresses, and not the loopback. */
  ethernet: boolean;
  mtu: number;
  mac: string;
  masterIndex: number;
  /** The lower device of a VLAN device, a macvlan and the like. */
  baseIndex: number;
  /** Of a bridge port: hairpin mode. */
  hairpin: boolean;
  kind: string;
  /** Its group is weft's mark; on the node a link is weft's only with a name or an alias of weft's, too. */
  marked: boolean;
  owned: boolean;
  object: LinkObject | undefined;
}

/** Link data that decoding objects on links requires. */
export interface LinkLookup {
  byIndex(index: number): KernelLink | undefined;
  /** Whether the kernel keeps marks on addresses (IFA_PROTO, Linux 5.18). Without them, link names decide. */
  marksAddresses: boolean;
  role: NamespaceRole;
}

export interface DecodedAddress {
  link: KernelLink;
  text: string;
  global: boolean;
  marked: boolean;
  hasProtocol: boolean;
  /** Without lifetime: neither a router advertisement nor DHCPv6 created it. */
  permanent: boolean;
  /** Of an IPv6 address. */
  flaw: AddressFlaw | undefined;
}

export interface DecodedRoute {
  actual: ActualObject;
  metric: number;
  isDefault: boolean;
  family: 4 | 6;
  /** From a router advertisement. */
  advertised: boolean;
  /** By the kernel or by a router advertisement. */
  connected: boolean;
  link: KernelLink | undefined;
}

export interface AnyRoute extends DecodedRoute {
  /** Its number: 254 is main. */
  table: number;
  /** To an address of the host itself. */
  isLocal: boolean;
}

export interface BridgeVlanEntry {
  vlan: number;
  pvid: boolean;
  untagged: boolean;
}

/** One snapshot of a namespace, which every kind decodes its objects from. */
export interface View {
  role: NamespaceRole;
  links: ReadonlyMap<number, KernelLink>;
  lookup: LinkLookup;
  addresses: readonly DecodedAddress[];
  routes: readonly DecodedRoute[];
  /** Of other tables than main. */
  otherRoutes: readonly AnyRoute[];
  /** By the index of each port of a VLAN-filtering bridge, and of the bridge. */
  vlans: ReadonlyMap<number, readonly BridgeVlanEntry[]>;
  /** weft's WireGuard devices, by index. */
  wireguard: ReadonlyMap<number, WireguardDevice>;
  /** Every pump that runs. */
  pumps: ReturnType<Pumps['list']>;
  /** Sysctls to read. */
  sysctls: Iterable<string>;
  /** NICs that are ports of bridges, or were about to become one. */
  lent: readonly { link: string; done: boolean }[];
  dump: (request: Request) => Message[];
  inside: <T>(work: () => T) => T;
}
