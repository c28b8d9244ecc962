// Permanent neighbour entries as rtnetlink has them.
import { WEFT_MARK, type NeighbourObject } from '../../../core/objects/index.js';
import { AF_BRIDGE } from '../libc.js';
import { ipAttr, macAttr, u8Attr } from '../netlink-message.js';
import type { ItemCodec } from './codec.js';
import {
  dumpNeighbours,
  entryReader,
  familyOf,
  NDA,
  ndmsg,
  neighbourRequest,
  NTF,
  NUD_PERMANENT,
} from './neighbour-messages.js';

export const neighbour: ItemCodec<NeighbourObject> = {
  request({ ip, mac }, index, how) {
    const put = how !== 'delete';
    return neighbourRequest(
      put,
      ndmsg(familyOf(ip), index, NUD_PERMANENT, 0),
      ipAttr(NDA.DST, ip),
      ...(put ? [macAttr(NDA.LLADDR, mac), u8Attr(NDA.PROTOCOL, WEFT_MARK)] : []),
    );
  },
  ...entryReader({
    dump: dumpNeighbours,
    is: (family, flags) => family !== AF_BRIDGE && (flags & NTF.PROXY) === 0,
    object: ({ link, dst, mac }) =>
      dst === undefined ? undefined : { kind: 'neighbour', link: link.name, ip: dst, mac: mac ?? '' },
  }),
};
