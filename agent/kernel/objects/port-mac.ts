// Static FDB entries of bridge ports as rtnetlink has them.
import type { PortMacObject } from '../../../core/objects/index.js';
import { AF_BRIDGE } from '../libc.js';
import { macAttr } from '../netlink-message.js';
import type { ItemCodec } from './codec.js';
import { dumpFdb, entryReader, NDA, ndmsg, neighbourRequest, NTF, NUD_NOARP } from './neighbour-messages.js';

export const portMac: ItemCodec<PortMacObject> = {
  // Without a VLAN it is one entry for each VLAN of the port. A permanent one would be the bridge's own address; one that is
  // not sticky follows the address to the port that it is seen on (net/bridge/br_fdb.c, br_fdb_update).
  request: ({ mac }, index, how) =>
    neighbourRequest(
      how !== 'delete',
      ndmsg(AF_BRIDGE, index, NUD_NOARP, NTF.MASTER | NTF.STICKY),
      macAttr(NDA.LLADDR, mac),
    ),
  ...entryReader({
    dump: dumpFdb,
    is: (family, flags) => family === AF_BRIDGE && (flags & NTF.STICKY) !== 0,
    object: ({ link, mac }) =>
      link.object?.type !== 'veth' || mac === undefined
        ? undefined
        : { kind: 'port-mac', link: link.name, bridge: link.object.master, mac },
    always: true,
  }),
};
