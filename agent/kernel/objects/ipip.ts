// IPIP device as rtnetlink has it (include/uapi/linux/if_tunnel.h).
import type { IpipLink } from '../../../core/objects/index.js';
import { be16Attr, ipAttr, readIp, u16Attr, u32Attr, u8Attr } from '../netlink-message.js';
import type { LinkCodec } from './codec.js';
import { bringUp, IFLA, linkInfo, setAttributes, withoutLinkLocal } from './link-messages.js';

const IPTUN = {
  LOCAL: 2,
  REMOTE: 3,
  PMTUDISC: 10,
  ENCAP_TYPE: 15,
  ENCAP_SPORT: 17,
  ENCAP_DPORT: 18,
} as const;
const ENCAP_FOU = 1;
const ANY = '0.0.0.0';

export const ipip: LinkCodec<IpipLink> = {
  infoKind: 'ipip',
  roles: ['node'],
  create: ({ mtu, local, fou }) => [
    u32Attr(IFLA.MTU, mtu),
    linkInfo('ipip', ipAttr(IPTUN.LOCAL, local), ...(fou === undefined ? [] : inUdp(fou))),
  ],
  change: (link, current) => [
    ...setAttributes(link, current),
    ...withoutLinkLocal(current),
    ...bringUp(current),
  ],
  decode({ name, mtu }, alias, data) {
    const ip = (type: number): string => {
      const bytes = data.get(type);
      return bytes === undefined ? ANY : readIp(bytes);
    };
    const remote = ip(IPTUN.REMOTE);
    const isFou = data.get(IPTUN.ENCAP_TYPE)?.readUInt16LE() === ENCAP_FOU;
    const ends = { local: ip(IPTUN.LOCAL), ...(remote === ANY ? {} : { remote }) };
    const fou = isFou ? { fou: data.get(IPTUN.ENCAP_DPORT)?.readUInt16BE() ?? 0 } : {};
    return { kind: 'link', type: 'ipip', name, alias, mtu, ...ends, ...fou };
  },
};

const inUdp = (port: number): Buffer[] => [
  u16Attr(IPTUN.ENCAP_TYPE, ENCAP_FOU),
  be16Attr(IPTUN.ENCAP_SPORT, port),
  be16Attr(IPTUN.ENCAP_DPORT, port),
  // As the pump's socket: a path that carries less gets fragments.
  u8Attr(IPTUN.PMTUDISC, 0),
];
