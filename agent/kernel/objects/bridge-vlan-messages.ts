// VLANs of bridges and their ports in rtnetlink's bridge family (include/uapi/linux/if_bridge.h).
import type { BridgeVlanObject } from '../../../core/objects/index.js';
import { AF_BRIDGE } from '../libc.js';
import { attr, decodeAttrs, fixed, nested, RTM, u16Attr, u32Attr, type Request } from '../netlink-message.js';
import { IFLA } from './link-messages.js';
import type { BridgeVlanEntry } from './readings.js';

const BRIDGE = { FLAGS: 0, VLAN_INFO: 2 } as const;
const BRIDGE_FLAGS_SELF = 2;
const VLAN_INFO = { PVID: 2, UNTAGGED: 4, RANGE_BEGIN: 8, RANGE_END: 16 } as const;
const RTEXT_FILTER_BRVLAN = 2;

/** ifinfomsg of the bridge family. */
const bridgeInfo = (index = 0): Buffer => fixed([1, AF_BRIDGE], [1, 0], [2, 0], [4, index], [4, 0], [4, 0]);

const vlanInfo = (flags: number, vlan: number): Buffer =>
  attr(BRIDGE.VLAN_INFO, fixed([2, flags], [2, vlan]));

/** Dumps the VLANs of all bridges and their ports. */
export const dumpBridgeVlans: Request = {
  type: RTM.GETLINK,
  flags: 0,
  body: Buffer.concat([bridgeInfo(), u32Attr(IFLA.EXT_MASK, RTEXT_FILTER_BRVLAN)]),
};

export function bridgeVlanRequest(object: BridgeVlanObject, index: number, put: boolean): Request {
  const self = object.link === object.bridge ? [u16Attr(BRIDGE.FLAGS, BRIDGE_FLAGS_SELF)] : [];
  const flags = object.untagged === true && put ? VLAN_INFO.PVID | VLAN_INFO.UNTAGGED : 0;
  return {
    type: put ? RTM.SETLINK : RTM.DELLINK,
    flags: 0,
    body: Buffer.concat([bridgeInfo(index), nested(IFLA.AF_SPEC, ...self, vlanInfo(flags, object.vlan))]),
  };
}

/** Puts a port into this VLAN alone, untagged: an unowned bridge adds every port to its default VLAN. */
export function accessPortRequests(index: number, vlan: number): Request[] {
  const all = [vlanInfo(VLAN_INFO.RANGE_BEGIN, 1), vlanInfo(VLAN_INFO.RANGE_END, 4094)];
  const one = vlanInfo(VLAN_INFO.PVID | VLAN_INFO.UNTAGGED, vlan);
  return [
    { type: RTM.DELLINK, flags: 0, body: Buffer.concat([bridgeInfo(index), nested(IFLA.AF_SPEC, ...all)]) },
    { type: RTM.SETLINK, flags: 0, body: Buffer.concat([bridgeInfo(index), nested(IFLA.AF_SPEC, one)]) },
  ];
}

/** Decodes one message of `dumpBridgeVlans`. */
export function decodeBridgeVlans(body: Buffer): { index: number; entries: BridgeVlanEntry[] } {
  const spec = decodeAttrs(body, 16).get(IFLA.AF_SPEC) ?? Buffer.alloc(0);
  const entries: BridgeVlanEntry[] = [];
  // The attribute is repeated, which a map of attributes cannot hold.
  for (let at = 0; at + 8 <= spec.length;) {
    const length = spec.readUInt16LE(at);
    if (length < 4) break;
    if ((spec.readUInt16LE(at + 2) & 0x3fff) === BRIDGE.VLAN_INFO && length >= 8) {
      const flags = spec.readUInt16LE(at + 4);
      entries.push({
        vlan: spec.readUInt16LE(at + 6),
        pvid: (flags & VLAN_INFO.PVID) !== 0,
        untagged: (flags & VLAN_INFO.UNTAGGED) !== 0,
      });
    }
    at += (length + 3) & ~3;
  }
  return { index: body.readInt32LE(4), entries };
}

/** The one VLAN that a port is in, untagged; 0 for anything else. */
export function accessVlan(entries: readonly BridgeVlanEntry[]): number {
  const [entry] = entries;
  return entries.length === 1 && entry?.pvid === true && entry.untagged ? entry.vlan : 0;
}
