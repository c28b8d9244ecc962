// veth pair as rtnetlink has it on the node.
import { TRANSIT_PREFIX, WEFT_MARK, type VethLink } from '../../../core/objects/index.js';
import { attr, macAttr, nested, RTM, textAttr, u32Attr, u8Attr, type Request } from '../netlink-message.js';
import { accessPortRequests, accessVlan } from './bridge-vlan-messages.js';
import { StepRefused, type LinkCodec } from './codec.js';
import {
  BRPORT_MODE,
  bringUp,
  IFLA,
  ifinfo,
  INFO,
  linkInfo,
  setAttributes,
  withoutLinkLocal,
} from './link-messages.js';

const VETH_INFO_PEER = 1;

/** A port's own settings are changed by a new-link request for the same index (net/core/rtnetlink.c, slave_changelink). */
const setHairpin = (index: number, on: boolean): Request => ({
  type: RTM.NEWLINK,
  flags: 0,
  body: Buffer.concat([
    ifinfo(index),
    nested(
      IFLA.LINKINFO,
      textAttr(INFO.SLAVE_KIND, 'bridge'),
      nested(INFO.SLAVE_DATA, u8Attr(BRPORT_MODE, on ? 1 : 0)),
    ),
  ]),
});

export const veth: LinkCodec<VethLink> = {
  infoKind: 'veth',
  roles: ['node'],
  create(link, { peerFd }) {
    const fd = peerFd(link.name);
    if (fd === undefined && link.peer.onNode !== true)
      throw new StepRefused('ENODEV', 'the container is not open');
    const peer = [
      ifinfo(),
      textAttr(IFLA.IFNAME, link.peer.name),
      macAttr(IFLA.ADDRESS, link.peer.mac),
      u32Attr(IFLA.MTU, link.mtu),
      u32Attr(IFLA.GROUP, WEFT_MARK),
      ...(fd === undefined ? [] : [u32Attr(IFLA.NET_NS_FD, fd)]),
    ];
    return [u32Attr(IFLA.MTU, link.mtu), linkInfo('veth', attr(VETH_INFO_PEER, Buffer.concat(peer)))];
  },
  change(link, current, { bridgeIndex }) {
    const { index } = current;
    const hairpin = link.hairpin ?? false;
    return [
      ...setAttributes(
        { mtu: link.mtu, alias: link.alias },
        current,
        u32Attr(IFLA.MASTER, bridgeIndex(link.master)),
      ),
      ...(hairpin === current.hairpin ? [] : [setHairpin(index, hairpin)]),
      ...withoutLinkLocal(current),
      ...bringUp(current),
      ...(link.vlan === undefined ? [] : accessPortRequests(index, link.vlan)),
    ];
  },
  decode({ name, mtu, masterIndex, hairpin }, alias, _data, nameOf) {
    // The other end is part of this object.
    if (name.startsWith(TRANSIT_PREFIX)) return undefined;
    const master = masterIndex === 0 ? '' : nameOf(masterIndex);
    const mode = hairpin ? { hairpin } : {};
    return { kind: 'link', type: 'veth', name, alias, mtu, master, ...mode, peer: { name: '', mac: '' } };
  },
  withVlans: (link, entries) => ({ ...link, vlan: accessVlan(entries) }),
};
