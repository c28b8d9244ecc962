// Names of weft's links, and the addresses that weft derives.
//
// A name identifies the owner of a link, and is the same in every run, so that an earlier agent's links are recognised.
import { createHash } from 'node:crypto';

import type { IpAddress, IpNetwork } from './address.js';
import { LAN_PREFIX, MAX_LINK_NAME, TRANSIT_PREFIX } from './objects/index.js';

/** 4 + 11 characters: as much of the id as a link's name holds. */
export const hostIfname = (endpointId: string): string => `wfep${endpointId.slice(0, 11)}`;
/** Name of the container's end until it is moved inside; as much of the id as fits. */
export const transitIfname = (endpointId: string): string => `${TRANSIT_PREFIX}${endpointId.slice(0, 11)}`;
export const networkAlias = (network: string): string => `weft network ${network}`;
export const endpointAlias = (network: string, name: string): string => `weft endpoint ${name} of ${network}`;

/** The bridge of a network without a VNI. No VNI is written with a dash. */
export const ownBridgeName = (network: string): string => fitted('wfbr-', network);
/** A network's device of a kind without a number of its own. */
export const ownTunnelName = (prefix: string, network: string): string => fitted(prefix, network);
/** The bridge of all VLANs without a parent. */
export const VLAN_BRIDGE = 'wfvlan';
/** The bridge that a NIC becomes a port of. */
export const lanBridgeName = (parent: string): string => fitted(LAN_PREFIX, parent);
/** The host's own link in a VLAN of a bridge. */
export const vlanGatewayName = (bridge: string, vlan: number): string => `wfgw${vlan}-${digest(bridge, 6)}`;

function fitted(prefix: string, name: string): string {
  const room = MAX_LINK_NAME - prefix.length;
  return `${prefix}${name.length <= room ? name : digest(name, room)}`;
}

const digest = (text: string, length: number): string =>
  createHash('sha256').update(text).digest('hex').slice(0, length);

/** The same on every bridge: link-local addresses of different links are independent. */
export const BRIDGE_LINK_LOCAL = 'fe80::1';

/**
 * Where every node answers names, in each of its networks: link-local (RFC 3927), so that it is the same on every host and leads
 * to no other. None of the addresses that clouds and Kubernetes' node-local DNS have in 169.254.0.0/16.
 */
export const RESOLVER_IP = '169.254.53.53';

/** The MAC address of the bridge of VLANs without a parent: no frame with it leaves its node. */
export const VLAN_BRIDGE_MAC = '02:77:76:6c:61:6e';

/** The gateway of a node's subnet is its first address after the base. */
export const gatewayOf = (subnet: IpNetwork): IpAddress => subnet.at(1);

/** A MAC address derived from an IP address: the same each time, so that neighbours' caches stay right. */
export function macOf(ip: IpAddress): string {
  // Of an IPv6 address a hash: the last bits of two nodes' addresses are often the same, and both may be on one bridge.
  const bytes = ip.family === 4 ? ip.toBytes() : createHash('sha256').update(ip.toString()).digest();
  // 02: locally administered, unicast (IEEE 802 §8.2.2).
  return `02:77:${[...bytes.subarray(0, 4)].map(hex).join(':')}`;
}

/** Whether macOf derives such addresses. */
export const isMacOfIp = (mac: string): boolean => mac.startsWith('02:77:');

const hex = (byte: number): string => byte.toString(16).padStart(2, '0');
