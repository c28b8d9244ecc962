// Packets and bytes of each link, as the kernel has counted them since the link was made.
import { RTM, attrSet, decodeAttrs, u32Attr, type Request } from './netlink-message.js';
import type { LinkCounters } from './kernel.js';
import type { NetlinkSocket } from './netlink-socket.js';
import { decodeLinkName } from './objects/index.js';

/** include/uapi/linux/if_link.h: struct rtnl_link_stats64. */
const IFLA_STATS64 = 23;
const STATS = attrSet([IFLA_STATS64]);
const AT = { receivedPackets: 0, sentPackets: 1, receivedBytes: 2, sentBytes: 3, dropped: [6, 7] } as const;
const IFLA_EXT_MASK = 29;

/** With their counters, unlike dumpLinks. */
const dump: Request = {
  type: RTM.GETLINK,
  flags: 0,
  body: Buffer.concat([Buffer.alloc(16), u32Attr(IFLA_EXT_MASK, 0)]),
};

export function readLinkCounters(socket: NetlinkSocket): Map<string, LinkCounters> {
  const found = new Map<string, LinkCounters>();
  for (const { body } of socket.dump(dump)) {
    const stats = decodeAttrs(body, 16, STATS).get(IFLA_STATS64);
    if (stats === undefined) continue;
    const at = (index: number): number => Number(stats.readBigUInt64LE(index * 8));
    found.set(decodeLinkName(body).name, {
      receivedPackets: at(AT.receivedPackets),
      receivedBytes: at(AT.receivedBytes),
      sentPackets: at(AT.sentPackets),
      sentBytes: at(AT.sentBytes),
      dropped: AT.dropped.reduce((sum, index) => sum + at(index), 0),
    });
  }
  return found;
}
