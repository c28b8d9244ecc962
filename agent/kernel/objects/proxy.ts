// Proxy neighbours as rtnetlink has them.
import { WEFT_MARK, type ProxyObject } from '../../../core/objects/index.js';
import { AF_BRIDGE } from '../libc.js';
import { ipAttr, u8Attr } from '../netlink-message.js';
import type { ItemCodec } from './codec.js';
import {
  dumpProxies,
  entryReader,
  familyOf,
  NDA,
  ndmsg,
  neighbourRequest,
  NTF,
  NUD_PERMANENT,
} from './neighbour-messages.js';

export const proxy: ItemCodec<ProxyObject> = {
  request({ ip }, index, how) {
    const put = how !== 'delete';
    return neighbourRequest(
      put,
      ndmsg(familyOf(ip), index, NUD_PERMANENT, NTF.PROXY),
      ipAttr(NDA.DST, ip),
      ...(put ? [u8Attr(NDA.PROTOCOL, WEFT_MARK)] : []),
    );
  },
  ...entryReader({
    dump: dumpProxies,
    is: (family, flags) => family !== AF_BRIDGE && (flags & NTF.PROXY) !== 0,
    object: ({ link, dst }) => (dst === undefined ? undefined : { kind: 'proxy', link: link.name, ip: dst }),
    always: true,
  }),
};
