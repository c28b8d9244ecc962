// FDB entries of VXLAN devices as rtnetlink has them.
import type { FdbObject } from '../../../core/objects/index.js';
import { AF_BRIDGE } from '../libc.js';
import { ipAttr, macAttr } from '../netlink-message.js';
import type { ItemCodec } from './codec.js';
import {
  dumpFdb,
  entryReader,
  NDA,
  ndmsg,
  neighbourRequest,
  NTF,
  NUD_PERMANENT,
} from './neighbour-messages.js';

export const fdb: ItemCodec<FdbObject> = {
  // A MAC address has one VTEP: a new one replaces it (vxlan_fdb_update_existing).
  request: ({ mac, dst }, index, how) =>
    neighbourRequest(
      how !== 'delete',
      ndmsg(AF_BRIDGE, index, NUD_PERMANENT, NTF.SELF),
      macAttr(NDA.LLADDR, mac),
      ipAttr(NDA.DST, dst),
    ),
  ...entryReader({
    dump: dumpFdb,
    // The same table has the addresses of a bridge's own ports, without a destination.
    is: (family, flags) => family === AF_BRIDGE && (flags & NTF.SELF) !== 0,
    object: ({ link, dst, mac }) =>
      link.object?.type !== 'vxlan' || dst === undefined || mac === undefined
        ? undefined
        : { kind: 'fdb', link: link.name, mac, dst },
  }),
};
