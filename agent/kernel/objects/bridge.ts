// Bridge as rtnetlink has it.
import type { BridgeLink } from '../../../core/objects/index.js';
import { macAttr, u16Attr, u32Attr, u8Attr } from '../netlink-message.js';
import type { LinkCodec } from './codec.js';
import { bringUp, IFLA, linkInfo, setAttributes, withoutLinkLocal } from './link-messages.js';

const BRIDGE = {
  FORWARD_DELAY: 1,
  STP_STATE: 5,
  VLAN_FILTERING: 7,
  MCAST_SNOOPING: 23,
  VLAN_DEFAULT_PVID: 39,
} as const;

export const bridge: LinkCodec<BridgeLink> = {
  infoKind: 'bridge',
  roles: ['node'],
  create: (link) => [
    // No MTU: it follows that of the ports until it is set explicitly, and a value at creation is not kept
    // (net/bridge/br_device.c).
    macAttr(IFLA.ADDRESS, link.mac),
    // A port forwards from the first packet on; without IGMP groups to track, every multicast goes to every port.
    linkInfo(
      'bridge',
      u32Attr(BRIDGE.FORWARD_DELAY, 0),
      u32Attr(BRIDGE.STP_STATE, 0),
      u8Attr(BRIDGE.MCAST_SNOOPING, 0),
      // A port is in no VLAN until it is added to one.
      ...(link.vlans === true
        ? [u8Attr(BRIDGE.VLAN_FILTERING, 1), u16Attr(BRIDGE.VLAN_DEFAULT_PVID, 0)]
        : []),
    ),
  ],
  change: (link, current) => [
    ...setAttributes(link, current),
    ...withoutLinkLocal(current),
    ...bringUp(current),
  ],
  decode({ name, mac, mtu }, alias, data) {
    const vlans = data.get(BRIDGE.VLAN_FILTERING)?.[0] === 1 ? { vlans: true } : {};
    return { kind: 'link', type: 'bridge', name, alias, mac, mtu, ...vlans };
  },
};
