// The paths of a network as a matrix of nodes: who reaches whom, as the nodes report it.
//
// Nodes report what is broken: every other path between two living nodes is ok.
import type { BrokenPath, Node, Problem } from '../../proto/gen/weft/v1/types.js';
import type { Cluster } from './store.js';

export const STATES = ['ok', 'broken', 'down', 'none'] as const;
export type PathState = (typeof STATES)[number];

export interface PathMatrix {
  /** Sorted; rows send, columns receive. */
  names: string[];
  /** Indexes of STATES, row by row. */
  cells: Uint8Array;
  /** What the sender, or else the receiver, says of a path, by its index in `cells`. */
  problems: Map<number, Problem>;
  broken: number;
}

const [OK, BROKEN, DOWN, NONE] = [0, 1, 2, 3];

export const stateOf = ({ names, cells }: PathMatrix, from: number, to: number): PathState =>
  STATES[cells[from * names.length + to] ?? NONE] ?? 'none';

export function matrixOf({ nodes }: Pick<Cluster, 'nodes'>, network: string): PathMatrix {
  const members = [...nodes.values()]
    .filter(({ networks }) => networks.includes(network))
    .sort((a, b) => (a.name < b.name ? -1 : 1));
  const count = members.length;
  const cells = new Uint8Array(count * count).fill(OK);
  const problems = new Map<number, Problem>();
  const indexes = new Map(members.map(({ name }, index) => [name, index]));
  members.forEach(({ state }, index) => {
    cells[index * count + index] = NONE;
    if (state === 'up') return;
    for (let other = 0; other < count; other++) {
      if (other === index) continue;
      cells[index * count + other] = DOWN;
      cells[other * count + index] = DOWN;
    }
  });
  for (const path of brokenPaths(members, network)) {
    const [from, to] = [indexes.get(path.from), indexes.get(path.to)];
    if (from === undefined || to === undefined) continue;
    cells[from * count + to] = BROKEN;
    problems.set(from * count + to, path.problem);
  }
  return {
    names: members.map(({ name }) => name),
    cells,
    problems,
    broken: cells.filter((it) => it === BROKEN).length,
  };
}

interface Broken {
  from: string;
  to: string;
  network: string;
  problem: Problem;
}

/**
 * Directions between living nodes in which packets are lost. A probe needs both: that one end hears the other, as that end or
 * this one knows, says which of them it is. @param network undefined: all
 */
function brokenPaths(nodes: Iterable<Node>, network?: string): Broken[] {
  const living = new Map([...nodes].filter(({ state }) => state === 'up').map((node) => [node.name, node]));
  const reports = [...living.values()].flatMap((node) =>
    node.problems.flatMap((problem) =>
      problem.broken
        .filter((path) => living.has(path.node) && (network === undefined || path.network === network))
        .map((path) => ({ node: node.name, peer: path.node, path, problem })),
    ),
  );
  const direction = (from: string, to: string, { network, family }: BrokenPath): string =>
    [from, to, network, family].join(' ');
  const heard = new Set(
    reports.filter(({ path }) => path.hears).map(({ node, peer, path }) => direction(peer, node, path)),
  );
  const found = new Map<string, Broken>();
  const add = (from: string, to: string, { network }: BrokenPath, problem: Problem): void => {
    const key = [from, to, network].join(' ');
    if (!found.has(key)) found.set(key, { from, to, network, problem });
  };
  const isHeard = (from: string, to: string, path: BrokenPath): boolean =>
    heard.has(direction(from, to, path));
  // The sender's words come first. Where both are heard, something else is wrong, such as the MTU.
  for (const { node, peer, path, problem } of reports)
    if (!isHeard(node, peer, path) || isHeard(peer, node, path)) add(node, peer, path, problem);
  for (const { node, peer, path, problem } of reports)
    if (!isHeard(peer, node, path)) add(peer, node, path, problem);
  return [...found.values()];
}

/** Networks that nodes are in, and how many of their paths are broken; the worst ones first. */
export function networksByBroken({ nodes }: Pick<Cluster, 'nodes'>): { network: string; broken: number }[] {
  const counts = new Map<string, number>();
  for (const node of nodes.values())
    for (const network of node.networks) counts.set(network, counts.get(network) ?? 0);
  for (const { network } of brokenPaths(nodes.values())) counts.set(network, (counts.get(network) ?? 0) + 1);
  return [...counts]
    .map(([network, broken]) => ({ network, broken }))
    .sort((a, b) => b.broken - a.broken || (a.network < b.network ? -1 : 1));
}
