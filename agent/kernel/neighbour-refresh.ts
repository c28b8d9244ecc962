// Neighbour refresh: unreachable neighbours are resolved again at once.
//
// The kernel sends one request a second (retrans_time_ms, net/core/neighbour.c), also while there is no carrier, and none sooner
// when the carrier returns: a packet would wait for the rest of that second.
import type { LinuxNamespace } from './namespace.js';
import { dumpNeighbours, forgetNeighbour, unresolvedNeighbour } from './objects/index.js';

/** See Kernel.refreshNeighbours. An entry without a reply holds no other state. @throws SystemError */
export function refreshNeighbours(node: LinuxNamespace, link: string): void {
  const index = [...node.links().values()].find(({ name }) => name === link)?.index;
  if (index === undefined) return;
  const requests = node.socket.dump(dumpNeighbours).flatMap(({ body }) => {
    const open = unresolvedNeighbour(body, index);
    return open === undefined ? [] : [forgetNeighbour(open.family, index, open.ip)];
  });
  // An entry may have been resolved or deleted meanwhile.
  node.socket.batch(requests);
}
