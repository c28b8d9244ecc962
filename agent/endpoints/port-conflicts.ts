// Ingress ports of other nodes, and conflicts with ports in the cluster.
//
// An ingress port is open on every node of its network. Both functions read the store's view.
import { clashes } from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { View } from '../../store/store.js';

/** The ports of a gone node would lead to whoever has its addresses now. */
type Gone = Pick<DisplacedNodes, 'isGone'>;

/** Endpoints of other nodes with ingress ports, the oldest first: the first owner has the port. */
export const ingressPorts = (endpoints: Iterable<Endpoint>, node: string, displaced: Gone): Endpoint[] =>
  [...endpoints]
    .filter((endpoint) => endpoint.node !== node && endpoint.publish.some(({ everywhere }) => everywhere))
    .filter((endpoint) => !displaced.isGone(endpoint.node))
    .toSorted((a, b) => (`${a.createdAt} ${a.id}` < `${b.createdAt} ${b.id}` ? -1 : 1));

/** The endpoint whose port conflicts with a new ingress port of the holder's network. */
export function portConflict(
  view: View,
  holder: Pick<Endpoint, 'id' | 'network'>,
  published: PublishedPort,
  displaced: Gone,
): Endpoint | undefined {
  const nodesOf = (network: string): Set<string | undefined> =>
    new Set([...(view.leases.get(network)?.values() ?? [])].map(({ node }) => node));
  const nodes = nodesOf(holder.network);
  for (const [network, endpoints] of view.endpoints) {
    // An ingress port is open on all nodes of its network: the two conflict on nodes that are on both networks.
    const meets = (endpoint: Endpoint, everywhere: boolean): boolean =>
      nodes.has(endpoint.node) || (everywhere && [...nodesOf(network)].some((node) => nodes.has(node)));
    for (const endpoint of endpoints.values()) {
      if (endpoint.id === holder.id) continue;
      const clash = endpoint.publish.find(
        (other) => clashes(other, published) && meets(endpoint, other.everywhere),
      );
      if (clash !== undefined && !displaced.isGone(endpoint.node)) return endpoint;
    }
  }
  return undefined;
}
