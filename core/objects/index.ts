// Kernel objects, which compile produces, plan compares, and agent/kernel applies.
//
// Plain values. An object refers to its link by name; interface indexes are known only where netlink is.
export type { Actual, ActualObject } from './actual.js';
export { addressKey, connectedRoute, type AddressObject } from './address.js';
export type { BridgeLink } from './bridge.js';
export type { BridgeVlanObject } from './bridge-vlan.js';
export { fdbKey, type FdbObject } from './fdb.js';
export { PHASE, type ItemKind, type LinkKind, type ObjectKey, type ObjectKind } from './kind.js';
export type { IpipLink } from './ipip.js';
export { linkKey } from './link.js';
export type { LoopbackLink } from './loopback.js';
export {
  isLanBridge,
  isLinkName,
  LAN_PREFIX,
  LINK_PREFIX,
  MAX_LINK_NAME,
  TRANSIT_PREFIX,
  WEFT_MARK,
} from './marks.js';
export { neighbourKey, type NeighbourObject } from './neighbour.js';
export type { PeerLink } from './peer.js';
export { portKey, type PortObject } from './port.js';
export type { PortMacObject } from './port-mac.js';
export type { ProxyObject } from './proxy.js';
export type { PumpObject, PumpPrefixObject } from './pump.js';
export {
  describeObject,
  isRemovable,
  ITEM_KINDS,
  itemKindOf,
  kindOf,
  LINK_KINDS,
  linkKindOf,
  mustRemake,
  objectKey,
  sameObject,
  sysctlPaths,
  type ItemName,
  type ItemObject,
  type ItemOf,
  type KernelObject,
  type LinkObject,
  type LinkOf,
  type LinkType,
  type RemovableItem,
} from './registry.js';
export { DEFAULT_ROUTE, routeKey, type RouteObject } from './route.js';
export { ipv6Enabled, sysctlKey, sysctlLink, sysctlName, type SysctlObject } from './sysctl.js';
export type { TunLink } from './tun.js';
export type { VethLink } from './veth.js';
export type { VlanLink } from './vlan.js';
export type { VxlanLink } from './vxlan.js';
export type {
  WireguardKeyObject,
  WireguardLink,
  WireguardPeerObject,
  WireguardPrefixObject,
} from './wireguard.js';
