// Ingress ports of other nodes, and conflicts with ports in the cluster.
//
// An ingress port is open on every node of its network. All functions read the store's view.
import { clashes } from '../../core/publish.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type { DisplacedNodes } from '../../store/displaced-nodes.js';
import type { Change, Store, View } from '../../store/store.js';
import { lookThrough } from '../networks/index.js';

/** The ports of a gone node would lead to whoever has its addresses now. */
type Gone = Pick<DisplacedNodes, 'isGone'>;

const hasIngressPorts = (endpoint: Endpoint | undefined): boolean =>
  endpoint?.publish.some(({ everywhere }) => everywhere) === true;

/** Endpoints of other nodes with ingress ports, the oldest first: the first owner has the port. */
export const ingressPorts = (endpoints: Iterable<Endpoint>, node: string, displaced: Gone): Endpoint[] =>
  [...endpoints]
    .filter((endpoint) => endpoint.node !== node && hasIngressPorts(endpoint))
    .filter((endpoint) => !displaced.isGone(endpoint.node))
    .toSorted((a, b) => (`${a.createdAt} ${a.id}` < `${b.createdAt} ${b.id}` ? -1 : 1));

/**
 * Networks in which other nodes' endpoints have other ingress ports than before, or none any more.
 * @param known ids of those that have some, which it keeps
 */
export function changedIngress(changes: readonly Change[], node: string, known: Set<string>): string[] {
  return changes.flatMap((change) => {
    if (change.kind !== 'endpoint' || (change.after ?? change.before)?.node === node) return [];
    const { id, network, after } = change;
    const had = known.delete(id);
    if (hasIngressPorts(after)) known.add(id);
    return had || known.has(id) ? [network] : [];
  });
}

/** The nodes that are not coming back, as text. */
export const goneNodes = ({ all }: Pick<DisplacedNodes, 'all'>): string =>
  [...all.values()].flatMap(({ node, isGone }) => (isGone ? [node] : [])).join(' ');

/** Endpoints and leases of the networks that count. */
export type Known = Pick<View, 'endpoints' | 'leases'>;

const nodesOf = ({ leases }: Known, network: string): Set<string | undefined> =>
  new Set([...(leases.get(network)?.values() ?? [])].map(({ node }) => node));

/**
 * The view, with the published ports of networks that this node is not on, as far as some node is on one of them and on this.
 * While etcd is away it is what is known.
 * @throws WeftError UNAVAILABLE
 */
export async function withPortsElsewhere(
  store: Pick<Store, 'view' | 'state' | 'follows' | 'follow'>,
  network: string,
): Promise<Known> {
  const { view } = store;
  if (!store.state.connected) return view;
  const nodes = nodesOf(view, network);
  const others = [...view.leases.keys()].filter(
    (other) => !store.follows(other) && [...nodesOf(view, other)].some((node) => nodes.has(node)),
  );
  const endpoints = new Map(view.endpoints);
  await lookThrough(store, others, (other) => {
    const open = [...(view.endpoints.get(other) ?? [])].filter(([, { publish }]) => publish.length > 0);
    endpoints.set(other, new Map(open));
  });
  return { endpoints, leases: view.leases };
}

/** The endpoint whose port conflicts with a new ingress port of the holder's network. */
export function portConflict(
  view: Known,
  holder: Pick<Endpoint, 'id' | 'network'>,
  published: PublishedPort,
  displaced: Gone,
): Endpoint | undefined {
  const nodes = nodesOf(view, holder.network);
  for (const [network, endpoints] of view.endpoints) {
    // An ingress port is open on all nodes of its network: the two conflict on nodes that are on both networks.
    const meets = (endpoint: Endpoint, everywhere: boolean): boolean =>
      nodes.has(endpoint.node) || (everywhere && [...nodesOf(view, network)].some((node) => nodes.has(node)));
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
