// IPIP device as rtnetlink has it (include/uapi/linux/if_tunnel.h).
import type { IpipLink } from '../../../core/objects/index.js';
import { ipAttr, readIp, u32Attr } from '../netlink-message.js';
import type { LinkCodec } from './codec.js';
import { bringUp, IFLA, linkInfo, setAttributes, withoutLinkLocal } from './link-messages.js';

const IPTUN = { LOCAL: 2, REMOTE: 3 } as const;
const ANY = '0.0.0.0';

export const ipip: LinkCodec<IpipLink> = {
  infoKind: 'ipip',
  roles: ['node'],
  create: ({ mtu, local }) => [u32Attr(IFLA.MTU, mtu), linkInfo('ipip', ipAttr(IPTUN.LOCAL, local))],
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
    const ends = { local: ip(IPTUN.LOCAL), ...(remote === ANY ? {} : { remote }) };
    return { kind: 'link', type: 'ipip', name, alias, mtu, ...ends };
  },
};
