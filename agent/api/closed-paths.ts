// What follows from a firewall of this host that closes a tunnel's port: the paths through it.
import type { BrokenPath, Problem } from '../../core/problem.js';

/** Problems of paths that are blocked at a port which the host itself closes become consequences of that. */
export function foldClosedPaths(problems: readonly Problem[]): Problem[] {
  const folded = new Set<Problem>();
  const shown = problems.map((cause): Problem => {
    const explained = problems.filter((one) => isExplained(one, cause));
    if (explained.length === 0) return cause;
    for (const one of explained) folded.add(one);
    const broken = explained.flatMap((one) => one.broken ?? []);
    return { ...cause, isCause: true, broken, consequences: broken.map(lineOf) };
  });
  return shown.filter((problem) => !folded.has(problem));
}

function isExplained({ isCause, broken = [] }: Problem, { closes = [] }: Problem): boolean {
  const isClosed = ({ family, tunnelPorts = [] }: BrokenPath): boolean =>
    closes.some((closed) => closed.family === family && tunnelPorts.includes(closed.port));
  return isCause !== true && broken.length > 0 && broken.every(isClosed);
}

const lineOf = ({ node, network, family }: BrokenPath): string =>
  `node ${node}, network ${network}, IPv${family}: blocked`;
