// Problems that nodes report, each of them once.
//
// A broken path is seen from both of its ends, and a host that nobody reaches by everybody. A cause that one node has found
// stands for every path that it explains, whoever reports it.
import type { Problem } from '../core/problem.js';

/** A problem as a node reports it; its lists may be empty. */
export interface Reported {
  node: string;
  problem: Problem;
}

/** A path between two nodes, in the order of their names. */
interface Pair {
  ends: readonly [string, string];
  network: string;
  family: number;
  reports: { node: string; hears: boolean | undefined; problem: Problem }[];
}

/** @param isUp whether a node is up: a path to one that is not is no problem of its own */
export function problemsOfNodes(reported: readonly Reported[], isUp: (node: string) => boolean): Problem[] {
  const isPath = ({ problem }: Reported): boolean => (problem.broken ?? []).length > 0;
  const causes = reported.filter(({ problem }) => problem.isCause === true);
  const effects = reported.filter((it) => it.problem.isCause !== true && isPath(it));
  const others = reported.filter((it) => it.problem.isCause !== true && !isPath(it));
  const explained = new Set(pairsOf(causes).keys());
  const open = [...pairsOf(effects)].flatMap(([key, pair]) =>
    !explained.has(key) && pair.ends.every(isUp) ? [pair] : [],
  );
  return [
    ...[...groups(causes, ({ problem: { what, fix } }) => JSON.stringify([what, fix])).values()].map(causeOf),
    ...[...groups(open, ({ reports: [first] }) => first?.problem.fix ?? '').values()].flatMap(starsOf),
    ...others.map(({ node, problem: { what, why, fix, consequences = [] } }) => ({
      ...{ what: `node ${node}: ${what}`, why, fix, consequences },
    })),
  ];
}

function groups<T>(list: readonly T[], keyOf: (one: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const one of list) {
    const key = keyOf(one);
    found.set(key, [...(found.get(key) ?? []), one]);
  }
  return found;
}

function pairsOf(reported: readonly Reported[]): Map<string, Pair> {
  const pairs = new Map<string, Pair>();
  for (const { node, problem } of reported)
    for (const { node: peer, network, family, hears } of problem.broken ?? []) {
      const ends = node < peer ? ([node, peer] as const) : ([peer, node] as const);
      const key = JSON.stringify([ends, network, family]);
      const pair = pairs.get(key) ?? { ends, network, family, reports: [] };
      pair.reports.push({ node, hears, problem });
      pairs.set(key, pair);
    }
  return pairs;
}

/** One cause, seen by one node or by several. */
function causeOf(seen: readonly Reported[]): Problem {
  const [{ problem } = { problem: { what: '', why: '', fix: '' } }] = seen;
  const nodes = seen.map(({ node }) => node).toSorted();
  return {
    what: `${nodes.length === 1 ? 'node' : 'nodes'} ${nodes.join(', ')}: ${problem.what}`,
    why: problem.why,
    fix: problem.fix,
    consequences: seen.flatMap(({ node, problem: { consequences = [] } }) =>
      consequences.map((line) => `from node ${node} to ${line}`),
    ),
  };
}

/** The node of the most broken paths stands for all of its own; then the next one. */
function starsOf(pairs: readonly Pair[]): Problem[] {
  const left = new Set(pairs);
  const problems: Problem[] = [];
  while (left.size > 0) {
    const counts = groups(
      [...left].flatMap((pair) => pair.ends.map((node) => ({ node, pair }))),
      ({ node }) => node,
    );
    const [[centre, own] = ['', []]] = [...counts].toSorted(
      ([a, x], [b, y]) => peersOf(b, y).length - peersOf(a, x).length || (a < b ? -1 : 1),
    );
    const members = own.map(({ pair }) => pair);
    for (const pair of members) left.delete(pair);
    problems.push(starOf(centre, peersOf(centre, own), members));
  }
  return problems;
}

const peersOf = (centre: string, own: readonly { pair: Pair }[]): string[] => [
  ...new Set(own.flatMap(({ pair }) => pair.ends.filter((node) => node !== centre))),
];

function starOf(centre: string, peers: readonly string[], pairs: readonly Pair[]): Problem {
  const names = (all: readonly string[]): string => [...new Set(all)].toSorted().join(' and ');
  const networks = names(pairs.map(({ network }) => network));
  const families = names(pairs.map(({ family }) => `IPv${family}`));
  const others = peers.length === 1 ? `node ${peers[0]}` : `${peers.length} nodes`;
  const { why, fix } = bestReport(centre, pairs);
  return {
    what: `between node ${centre} and ${others}, in ${networks.includes(' and ') ? 'networks' : 'network'} ${networks}, ${families}`,
    why,
    fix,
    consequences: pairs.length === 1 ? [] : pairs.map(lineOf),
  };
}

const lineOf = ({ ends: [a, b], network, family }: Pair): string =>
  `between node ${a} and node ${b}, network ${network}, IPv${family}`;

/** Who hears the other knows the direction; and the node that stands for the paths speaks of all of them. */
function bestReport(centre: string, pairs: readonly Pair[]): Pick<Problem, 'why' | 'fix'> {
  const reports = pairs.flatMap((pair) => pair.reports);
  const worth = ({ node, hears }: Pair['reports'][number]): number =>
    (hears === true ? 4 : hears === false ? 2 : 0) + (node === centre ? 1 : 0);
  const [best] = reports.toSorted((a, b) => worth(b) - worth(a));
  if (best === undefined) return { why: '', fix: '' };
  const { why, fix } = best.problem;
  const isDeaf = pairs.every(
    (pair) => pair.reports.length > 1 && pair.reports.every((it) => it.hears === false),
  );
  return { why: isDeaf ? `${why}, nor does anything the other way` : why, fix };
}
