// Which link address has this neighbour? The kernel asks that once a second (retrans_time_ms, net/core/neighbour.c), also
// while the cable is out, and does not ask sooner because the cable is back: whoever it was asking for would wait for the
// rest of that second.
import { dumpNeighbours, forgetNeighbour } from './encode.js';
import type { LinuxNamespace } from './namespace.js';
import { decodeAttrs } from './netlink-message.js';

// include/uapi/linux/neighbour.h
const NUD_INCOMPLETE = 0x01;
const NDA_DST = 1;

/** See Kernel.askNeighboursAgain. An entry that has no answer holds nothing but the question. @throws SystemError */
export function askNeighboursAgain(node: LinuxNamespace, link: string): void {
  const index = [...node.links().values()].find(({ name }) => name === link)?.index;
  if (index === undefined) return;
  const requests = node.socket.dump(dumpNeighbours).flatMap(({ body }) => {
    const isOpen = body.readInt32LE(4) === index && body.readUInt16LE(8) === NUD_INCOMPLETE;
    const ip = isOpen ? decodeAttrs(body, 12).get(NDA_DST) : undefined;
    return ip === undefined ? [] : [forgetNeighbour(body.readUInt8(0), index, ip)];
  });
  // One that was answered or has gone meanwhile is as good.
  node.socket.batch(requests);
}
