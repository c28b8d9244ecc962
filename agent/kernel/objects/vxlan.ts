// VXLAN device as rtnetlink has it.
import type { VxlanLink } from '../../../core/objects/index.js';
import {
  be16Attr,
  ipAttr,
  macAttr,
  nested,
  readIp,
  RTM,
  textAttr,
  u32Attr,
  u8Attr,
  type Request,
} from '../netlink-message.js';
import type { LinkCodec } from './codec.js';
import { bringUp, IFLA, ifinfo, INFO, linkInfo, setAttributes, withoutLinkLocal } from './link-messages.js';

const VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PORT: 15, LOCAL6: 17, UDP_CSUM: 18 } as const;

const localAttr = ({ local }: VxlanLink): Buffer =>
  ipAttr(local.includes(':') ? VXLAN.LOCAL6 : VXLAN.LOCAL, local);

/** A tunnel's own address is changed by a new-link request without NLM_F_EXCL (vxlan_changelink). */
const changeTunnel = (link: VxlanLink, index: number): Request => ({
  type: RTM.NEWLINK,
  flags: 0,
  body: Buffer.concat([
    ifinfo(index),
    nested(
      IFLA.LINKINFO,
      textAttr(INFO.KIND, 'vxlan'),
      nested(INFO.DATA, u32Attr(VXLAN.ID, link.vni), localAttr(link)),
    ),
  ]),
});

export const vxlan: LinkCodec<VxlanLink> = {
  infoKind: 'vxlan',
  roles: ['node'],
  create: (link) => [
    u32Attr(IFLA.MTU, link.mtu),
    macAttr(IFLA.ADDRESS, link.mac),
    linkInfo(
      'vxlan',
      u32Attr(VXLAN.ID, link.vni),
      localAttr(link),
      be16Attr(VXLAN.PORT, link.port),
      u8Attr(VXLAN.LEARNING, 0),
      // RFC 7348 §5: zero over IPv4; the packets inside have their own. It costs a fifth of the small packets.
      u8Attr(VXLAN.UDP_CSUM, 0),
    ),
  ],
  change: (link, current, { created }) => [
    ...setAttributes(link, current),
    ...withoutLinkLocal(current),
    ...bringUp(current),
    ...(created ? [] : [changeTunnel(link, current.index)]),
  ],
  decode({ name, mac, mtu }, alias, data) {
    const local = data.get(VXLAN.LOCAL) ?? data.get(VXLAN.LOCAL6);
    return {
      kind: 'link',
      type: 'vxlan',
      name,
      alias,
      mac,
      mtu,
      vni: data.get(VXLAN.ID)?.readUInt32LE() ?? 0,
      local: local === undefined ? '' : readIp(local),
      port: data.get(VXLAN.PORT)?.readUInt16BE() ?? 0,
    };
  },
};
