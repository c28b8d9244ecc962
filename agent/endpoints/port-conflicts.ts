// Ports that are open on every node of a network, seen from one of them: which are to be opened here, and who on any node
// is in the way of a new one. Both are read from what the store knows.
import { clashes } from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { View } from '../../store/store.js';

/** Endpoints of other nodes that have ports everywhere, the oldest first: whoever came first has the port. */
export const ingressPorts = (endpoints: Iterable<Endpoint>, node: string): Endpoint[] =>
  [...endpoints]
    .filter((endpoint) => endpoint.node !== node && endpoint.publish.some(({ everywhere }) => everywhere))
    .toSorted((a, b) => (`${a.createdAt} ${a.id}` < `${b.createdAt} ${b.id}` ? -1 : 1));

/** Whose port stands in the way of one that is to be open on every node of the holder's network. */
export function portConflict(
  view: View,
  holder: Pick<Endpoint, 'id' | 'network'>,
  published: PublishedPort,
): Endpoint | undefined {
  const nodesOf = (network: string): Set<string | undefined> =>
    new Set([...(view.leases.get(network)?.values() ?? [])].map(({ node }) => node));
  const nodes = nodesOf(holder.network);
  for (const [network, endpoints] of view.endpoints) {
    // Open on all nodes of that network; the two meet where both networks are.
    const meets = (endpoint: Endpoint, everywhere: boolean): boolean =>
      nodes.has(endpoint.node) || (everywhere && [...nodesOf(network)].some((node) => nodes.has(node)));
    for (const endpoint of endpoints.values()) {
      if (endpoint.id === holder.id) continue;
      const clash = endpoint.publish.find(
        (other) => clashes(other, published) && meets(endpoint, other.everywhere),
      );
      if (clash !== undefined) return endpoint;
    }
  }
  return undefined;
}
