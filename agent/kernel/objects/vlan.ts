// VLAN device as rtnetlink has it.
import type { VlanLink } from '../../../core/objects/index.js';
import { u16Attr, u32Attr } from '../netlink-message.js';
import type { LinkCodec } from './codec.js';
import { bringUp, IFLA, linkInfo, setAttributes, withoutLinkLocal } from './link-messages.js';

const VLAN_ID = 1;

export const vlan: LinkCodec<VlanLink> = {
  infoKind: 'vlan',
  roles: ['node'],
  create: (link, { bridgeIndex }) => [
    u32Attr(IFLA.MTU, link.mtu),
    u32Attr(IFLA.LINK, bridgeIndex(link.base)),
    linkInfo('vlan', u16Attr(VLAN_ID, link.vlan)),
  ],
  change: (link, current) => [
    ...setAttributes(link, current),
    ...withoutLinkLocal(current),
    ...bringUp(current),
  ],
  decode({ name, mtu, baseIndex }, alias, data, nameOf) {
    const vlan = data.get(VLAN_ID)?.readUInt16LE() ?? 0;
    return { kind: 'link', type: 'vlan', name, alias, mtu, base: nameOf(baseIndex), vlan };
  },
};
