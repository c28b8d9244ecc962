// Events of paths that break and heal: one for each node, however many of its paths break, whichever problem tells of them.
import type { Problem } from '../../core/problem.js';
import type { PathState } from './path.js';

export type PathHappening = (reason: 'path-broken' | 'path-healed', node: string, message: string) => void;

export class PathEvents {
  /** Nodes whose paths were told to be broken, and not to have healed. */
  readonly #broken = new Set<string>();

  constructor(private readonly tell: PathHappening) {}

  /** Whether a path is told to be broken. */
  get isOpen(): boolean {
    return this.#broken.size > 0;
  }

  /**
   * @param problems of paths; those of a cause that is told by itself are left out
   * @param statesByNode of all paths; a node without is no peer any more
   */
  follow(problems: Iterable<Problem>, statesByNode: () => ReadonlyMap<string, readonly PathState[]>): void {
    for (const { what, why, broken = [] } of problems)
      for (const { node } of broken) {
        if (this.#broken.has(node)) continue;
        this.#broken.add(node);
        this.tell('path-broken', node, `${what}: ${why}`);
      }
    if (this.#broken.size === 0) return;
    const known = statesByNode();
    for (const node of this.#broken) {
      const states = known.get(node) ?? [];
      // That a node went down has not mended what was broken before.
      if (!states.every((state) => state === 'ok')) continue;
      this.#broken.delete(node);
      if (states.length > 0) this.tell('path-healed', node, `all paths to node ${node} are ok`);
    }
  }
}
