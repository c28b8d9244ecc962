// What weft puts into a kernel, as plain values: the vocabulary that compile speaks, plan compares and the kernel layer
// reads and writes. An object names its link by name; indexes are known only where netlink is.
import { addressBits, IpNetwork, parseInterface } from './address.js';

/**
 * What marks an object as weft's in the kernel: the link group (IFLA_GROUP), the route protocol (rtm_protocol), the
 * neighbour protocol (NDA_PROTOCOL) and the address protocol (IFA_PROTO) all carry this number, ASCII "w".
 * Free in iproute2's rt_protos and rt_addrprotos.
 */
export const WEFT_MARK = 119;

/** Every link of weft begins with this. */
export const LINK_PREFIX = 'wf';

/** A container's end that waits on the node for whoever moves it inside; it comes and goes with its other end. */
export const TRANSIT_PREFIX = 'wfin';
/**
 * A bridge that a NIC of the host became a port of begins with this. The addresses on it are the host's, not weft's: they
 * moved there from the NIC, and move back when it is released.
 */
export const LAN_PREFIX = 'wfp-';

export const isLanBridge = (link: string): boolean => link.startsWith(LAN_PREFIX);

/** IFNAMSIZ less the terminating zero (include/uapi/linux/if.h). */
export const MAX_LINK_NAME = 15;

export interface VxlanLink {
  kind: 'link';
  type: 'vxlan';
  name: string;
  /** IFLA_IFALIAS; what `ip -d link` shows. Empty: not compared. */
  alias: string;
  mac: string;
  mtu: number;
  vni: number;
  /** The underlay address that it sends from; its family is the family of the tunnel. */
  local: string;
  /** UDP destination port. */
  port: number;
}

export interface BridgeLink {
  kind: 'link';
  type: 'bridge';
  name: string;
  alias: string;
  mac: string;
  mtu: number;
  /** It tells VLANs apart (vlan_filtering), and a port is in none until it is put into one. Absent: false. */
  vlans?: boolean;
}

/** A link of the host in one VLAN of a bridge (802.1Q). Its MAC address is the bridge's. */
export interface VlanLink {
  kind: 'link';
  type: 'vlan';
  name: string;
  alias: string;
  mtu: number;
  /** The bridge. */
  base: string;
  vlan: number;
}

/** A veth pair, seen from the node; the other end is made straight in the container's namespace. */
export interface VethLink {
  kind: 'link';
  type: 'veth';
  name: string;
  alias: string;
  mtu: number;
  /** The bridge it is a port of. */
  master: string;
  /** The one VLAN that the port is in, untagged; 0: in none, or in others. Absent: the bridge sees to it, or not known. */
  vlan?: number;
  /** Whether the bridge sends a frame back by the port that it came from. Absent: it does not. */
  hairpin?: boolean;
  /** With `onNode` it is made in the node's namespace, and whoever runs the container moves it. */
  peer: { name: string; mac: string; onNode?: boolean };
}

/** A container's end of a veth pair, seen from the container's namespace, where weft cannot create it. */
export interface PeerLink {
  kind: 'link';
  type: 'peer';
  name: string;
  mac: string;
  mtu: number;
}

/** The loopback device of a container, brought up and otherwise left alone. */
export interface LoopbackLink {
  kind: 'link';
  type: 'loopback';
  name: 'lo';
}

/** Every link that is described is also up. */
export type LinkObject = VxlanLink | BridgeLink | VlanLink | VethLink | PeerLink | LoopbackLink;

export interface AddressObject {
  kind: 'address';
  link: string;
  /** With prefix length: 10.100.5.1/24. IPv6 ones are added without duplicate address detection. */
  address: string;
}

export interface RouteObject {
  kind: 'route';
  /** 10.100.6.0/24; 0.0.0.0/0 and ::/0 are the default routes. Always in the main table. */
  to: string;
  link: string;
  /** Absent: the destination is on the link. */
  via?: string;
  /** RTNH_F_ONLINK: the gateway is taken to be on the link although no address says so. */
  onlink?: boolean;
  /** Preferred source address. */
  src?: string;
  /** The link is the host's own, which the underlay rests on; every other link must be weft's. Not compared. */
  underlay?: boolean;
}

/** A permanent neighbour entry. */
export interface NeighbourObject {
  kind: 'neighbour';
  link: string;
  ip: string;
  mac: string;
}

/** An address that the node answers ARP or NDP for on a link (`ip neigh add proxy`). */
export interface ProxyObject {
  kind: 'proxy';
  link: string;
  ip: string;
}

/**
 * Where frames for a unicast MAC address go: the VTEP behind it. There is one at most: appending a second is accepted by
 * the kernel and does nothing (vxlan_fdb_update_existing), so another destination replaces the first.
 */
export interface FdbObject {
  kind: 'fdb';
  link: string;
  mac: string;
  /** Underlay address of the VTEP. */
  dst: string;
}

/**
 * A link of the host that is a port of a bridge of weft's. Becoming one, it hands its addresses and routes on to the bridge,
 * and released it has them back as they were.
 */
export interface PortObject {
  kind: 'port';
  link: string;
  master: string;
}

/** A VLAN that a port of a bridge is in, or the bridge itself (`bridge vlan`). */
export interface BridgeVlanObject {
  kind: 'vlan';
  link: string;
  /** The same as `link` where it is the bridge itself. */
  bridge: string;
  vlan: number;
  /** Frames without a tag belong to it, both ways (pvid untagged). Absent: they carry the tag. */
  untagged?: boolean;
}

export interface SysctlObject {
  kind: 'sysctl';
  /** Below /proc/sys, for instance net/ipv4/ip_forward. */
  path: string;
  value: string;
}

/** As sysctl(8) writes it, which has dots where the path has slashes, and a slash for the dot of a link's name. */
export const sysctlName = (path: string): string =>
  path.replaceAll(/[./]/g, (separator) => (separator === '/' ? '.' : '/'));

export type KernelObject =
  | LinkObject
  | AddressObject
  | RouteObject
  | NeighbourObject
  | ProxyObject
  | FdbObject
  | PortObject
  | BridgeVlanObject
  | SysctlObject;

/** The route that the kernel makes with an address; undefined for one that stands for itself. */
export function connectedRoute({ link, address }: AddressObject): RouteObject | undefined {
  const { address: ip, length } = parseInterface(address);
  if (length === addressBits(ip.family)) return undefined;
  const src = ip.family === 4 ? { src: ip.toString() } : {};
  return { kind: 'route', to: IpNetwork.of(ip, length).toString(), link, ...src };
}

/** What two objects share when they cannot both be there. */
export function objectKey(object: KernelObject): string {
  switch (object.kind) {
    case 'link':
      return `link ${object.name}`;
    case 'address':
      return `address ${object.link} ${object.address}`;
    case 'route':
      return `route ${object.to}`;
    case 'neighbour':
      return `neighbour ${object.link} ${object.ip}`;
    case 'proxy':
      return `proxy ${object.link} ${object.ip}`;
    case 'fdb':
      return `fdb ${object.link} ${object.mac}`;
    case 'port':
      return `port ${object.link}`;
    case 'vlan':
      return `vlan ${object.link} ${object.vlan}`;
    case 'sysctl':
      return `sysctl ${object.path}`;
  }
}

/** As people write it, close to what `ip` and `bridge` print. */
export function describeObject(object: KernelObject): string {
  switch (object.kind) {
    case 'link':
      return `${object.type} ${object.name}`;
    case 'address':
      return `address ${object.address} dev ${object.link}`;
    case 'route':
      return `route ${object.to}${object.via === undefined ? '' : ` via ${object.via}`} dev ${object.link}`;
    case 'neighbour':
      return `neighbour ${object.ip} lladdr ${object.mac} dev ${object.link}`;
    case 'proxy':
      return `proxy neighbour ${object.ip} dev ${object.link}`;
    case 'fdb':
      return `fdb ${object.mac} dst ${object.dst} dev ${object.link}`;
    case 'port':
      return `port ${object.link} of ${object.master}`;
    case 'vlan':
      return `vlan ${object.vlan}${object.untagged === true ? ' untagged' : ''} dev ${object.link}`;
    case 'sysctl':
      return `sysctl ${object.path} = ${object.value}`;
  }
}

/** One thing that the kernel has: the object as far as weft describes it, and whose it is. */
export interface ActualObject {
  object: KernelObject;
  /** Whether it carries weft's mark; what does not is never changed nor deleted. */
  owned: boolean;
}

/** What a namespace has, by objectKey. Links of kinds that weft does not make appear as `foreign`. */
export interface Actual {
  objects: ReadonlyMap<string, ActualObject>;
  /** Names of links whose kind or attributes weft has no object for. */
  foreignLinks: ReadonlySet<string>;
  /** Names of links that are up. A described link that is not in here is down. */
  up: ReadonlySet<string>;
  /** Keys of addresses whose connected route, which the kernel makes with them, somebody has taken away. */
  unconnected?: ReadonlySet<string>;
}
