// Nodes on a grid, and between them what is broken: edges that are well say nothing.
import type { Node } from '../../proto/gen/weft/v1/types.js';
import type { Cluster } from './store.js';

/** More edges are no picture any more. */
const MOST_EDGES = 2000;

export interface Placed {
  node: Node;
  x: number;
  y: number;
}

export interface Edge {
  from: Placed;
  to: Placed;
  networks: string[];
}

export interface Picture {
  nodes: Placed[];
  edges: Edge[];
  /** Edges that are not drawn. */
  more: number;
  width: number;
  height: number;
}

/** @param network empty: all @param columns how many nodes are beside each other */
export function pictureOf(
  { nodes }: Pick<Cluster, 'nodes'>,
  network: string,
  { columns, width, height }: { columns: number; width: number; height: number },
): Picture {
  const shown = [...nodes.values()]
    .filter(({ networks }) => network === '' || networks.includes(network))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const placed = shown.map((node, index) => ({
    node,
    x: (index % columns) * width,
    y: Math.floor(index / columns) * height,
  }));
  const places = new Map(placed.map((it) => [it.node.name, it]));
  const edges = new Map<string, Edge>();
  for (const from of placed)
    for (const { broken } of from.node.problems)
      for (const path of broken) {
        const to = places.get(path.node);
        if (to === undefined || (network !== '' && path.network !== network)) continue;
        // Both ends report it.
        const key = JSON.stringify([from.node.name, to.node.name].sort());
        const edge = edges.get(key) ?? { from, to, networks: [] };
        if (!edge.networks.includes(path.network)) edge.networks.push(path.network);
        edges.set(key, edge);
      }
  return {
    nodes: placed,
    edges: [...edges.values()].slice(0, MOST_EDGES),
    more: Math.max(0, edges.size - MOST_EDGES),
    width: Math.min(columns, Math.max(1, shown.length)) * width,
    height: Math.ceil(shown.length / columns) * height,
  };
}
