// Neighbour refresh: the kernel asks anew for neighbours that it could not reach.
//
// It asks once a second (retrans_time_ms, net/core/neighbour.c), also while the cable is out, and does not ask sooner because
// the cable is back: a packet would wait for the rest of that second.
import type { LinuxNamespace } from './namespace.js';
import { dumpNeighbours, forgetNeighbour, openQuestion } from './objects/index.js';

/** See Kernel.refreshNeighbours. An entry that has no answer holds nothing but the question. @throws SystemError */
export function refreshNeighbours(node: LinuxNamespace, link: string): void {
  const index = [...node.links().values()].find(({ name }) => name === link)?.index;
  if (index === undefined) return;
  const requests = node.socket.dump(dumpNeighbours).flatMap(({ body }) => {
    const open = openQuestion(body, index);
    return open === undefined ? [] : [forgetNeighbour(open.family, index, open.ip)];
  });
  // One that was answered or has gone meanwhile is as good.
  node.socket.batch(requests);
}
