// Broken paths as problems: causes first, what follows from them folded under them.
import type { BrokenPath, Problem } from '../../core/problem.js';
import type { Path, PathState } from './path.js';

/** A path to a living node that is not ok. */
export interface Fault {
  path: Path & { node: string };
  state: Extract<PathState, 'mtu' | 'blocked' | 'underlay-unreachable'>;
  mtu?: number | undefined;
  underlayCarries?: boolean | undefined;
  /** Whether the other node's probes arrive here; undefined: not known. */
  hears?: boolean | undefined;
}

/** Something found on this node or its link that explains faults. */
export interface Cause {
  key: string;
  problem: Problem;
  explains: (path: Path) => boolean;
}

/** From so many nodes on, what is the same of all of them is one problem. */
const MANY = 3;

/** @param node this one. @returns by a key that stays the same while the problem lasts */
export function problemsOf(
  node: string,
  faults: readonly Fault[],
  causes: readonly Cause[],
): Map<string, Problem> {
  const problems = new Map<string, Problem>();
  const open = new Set(faults);
  for (const { key, problem, explains } of causes) {
    const explained = [...open].filter(({ path }) => explains(path));
    for (const fault of explained) open.delete(fault);
    problems.set(key, {
      ...problem,
      consequences: explained.map(lineOf),
      broken: explained.map(brokenOf),
      isCause: true,
    });
  }
  for (const alike of groups([...open], likenessOf).values()) {
    const byNode = groups(alike, ({ path }) => path.node);
    for (const members of byNode.size < MANY ? byNode.values() : [alike])
      problems.set(keyOf(members), problemOf(node, members));
  }
  return problems;
}

function groups<T>(list: readonly T[], keyOf: (one: T) => string): Map<string, T[]> {
  const found = new Map<string, T[]>();
  for (const one of list) {
    const key = keyOf(one);
    found.set(key, [...(found.get(key) ?? []), one]);
  }
  return found;
}

/** Equal for faults that have one cause, as far as it shows: the underlay is the same for every tunnel. */
function likenessOf({ path: { probe }, state, mtu, hears }: Fault): string {
  const what =
    'unreachable' in probe
      ? [probe.unreachable]
      : state === 'mtu'
        ? [mtu]
        : state === 'blocked'
          ? [hears, probe.advice]
          : [hears];
  return JSON.stringify([state, ...what]);
}

/** The first path: what is found out later, such as the direction, makes no other problem of it. */
const keyOf = ([first]: readonly Fault[]): string => first?.path.key ?? '';

const brokenOf = ({ path: { node, network, family, tunnelPorts }, state, hears }: Fault): BrokenPath => ({
  ...{ node, network, family },
  ...(hears !== undefined && { hears }),
  ...(state === 'blocked' && tunnelPorts.length > 0 && { tunnelPorts }),
});

const stateText = ({ state, mtu }: Fault): string => (state === 'mtu' ? `mtu ${mtu ?? 'unknown'}` : state);

const lineOf = (fault: Fault): string =>
  `node ${fault.path.node}, network ${fault.path.network}, IPv${fault.path.family}: ${stateText(fault)}`;

const listed = (noun: string, names: readonly string[]): string => {
  const all = [...new Set(names)];
  return all.length === 1 ? `${noun} ${all[0]}` : `${noun}s ${all.join(', ')}`;
};

/** One or more faults that are alike. */
function problemOf(self: string, faults: readonly Fault[]): Problem {
  const [first] = faults;
  if (first === undefined) throw new Error('a problem of no fault');
  const nodes = [...new Set(faults.map(({ path }) => path.node))];
  const paths = faults.map(({ path }) => path);
  const others = nodes.length === 1 ? `node ${nodes[0]} (${first.path.publicIp})` : `${nodes.length} nodes`;
  const within = listed(
    'network',
    paths.map(({ network }) => network),
  );
  const families = [...new Set(paths.map(({ family }) => `IPv${family}`))].toSorted().join(' and ');
  const noun = faults.length === 1 ? 'the path' : 'the paths';
  return {
    what: `${noun} to ${others} in ${within}, ${families}`,
    ...wordsOf(self, nodes.length === 1 ? `node ${nodes[0]}` : 'them', first),
    ...(faults.length > 1 && { consequences: faults.map(lineOf) }),
    broken: faults.map(brokenOf),
  };
}

/** By which side hears the other: a probe needs both directions, so that what is heard shows the other one as the broken one. */
function directionOf(self: string, other: string, hears: boolean | undefined): string {
  if (hears === undefined) return 'direction unknown';
  return hears
    ? `packets from node ${self} to ${other} are lost`
    : `nothing from ${other} arrives at node ${self}`;
}

function wordsOf(self: string, other: string, fault: Fault): Pick<Problem, 'why' | 'fix'> {
  const { path, state, mtu, underlayCarries, hears } = fault;
  const { probe, network } = path;
  if ('unreachable' in probe)
    return {
      why: `it is up, and cannot be reached in network ${network}: ${probe.unreachable}`,
      fix: 'Containers on the two nodes do not reach each other there; see `weft network inspect` for the network.',
    };
  const direction = directionOf(self, other, hears);
  if (state === 'blocked')
    return {
      why: `the underlay answers, and the tunnel does not: ${direction}`,
      fix: probe.advice,
    };
  if (state === 'underlay-unreachable')
    return {
      why: `nothing answers on the underlay either, although etcd has it as up: ${direction}`,
      fix: `Check cables, routes and firewalls between the two hosts. Where a firewall drops ping: ${probe.advice}`,
    };
  const passes = mtu === undefined ? 'which size passes is looked for' : `packets of up to ${mtu} bytes pass`;
  return {
    why: `larger packets are lost: ${passes}, and containers send up to ${probe.size}${underlayCarries === true ? '; the underlay carries such a packet outside of the tunnel' : ''}`,
    fix: `Mend the path (a link with a smaller MTU, ${probe.outerSize} bytes must pass on the underlay), or create the network with --mtu ${mtu ?? 'SIZE'}.`,
  };
}
