// Problems and warnings of this node, as `weft status` lists them.
//
// Each part of the agent sets and clears its own. Setting the same problem twice makes one. When a scope ends, its problems
// end with it.
import { isDeepStrictEqual } from 'node:util';

import type { Problem } from '../../core/problem.js';
import {
  type ProblemKey,
  type ProblemKind,
  type ProblemScope,
  scopeIdentity,
  WARNINGS,
} from './problem-key.js';

export type { Problem } from '../../core/problem.js';

/** What is told of problems that appear, and that end before their scope does. */
export interface ProblemListener {
  raised(key: ProblemKey, problem: Problem): void;
  cleared(key: ProblemKey, problem: Problem): void;
}

interface Entry {
  key: ProblemKey;
  scope: string;
  kind: ProblemKind;
  id: string;
  problem: Problem;
}

export class Problems {
  /** In order of appearance. */
  readonly #entries = new Map<string, Entry>();

  constructor(
    private readonly onChange: () => void = () => {},
    private readonly listener?: ProblemListener,
  ) {}

  set(key: ProblemKey, problem: Problem): void {
    const { scope, kind, id = '' } = key;
    const entry: Entry = { key, scope: scopeIdentity(scope), kind, id, problem };
    const identity = identityOf(entry);
    const before = this.#entries.get(identity)?.problem;
    if (isDeepStrictEqual(before, problem)) return;
    this.#entries.set(identity, entry);
    if (before === undefined) this.listener?.raised(key, problem);
    this.onChange();
  }

  get({ scope, kind, id = '' }: ProblemKey): Problem | undefined {
    return this.#entries.get(identityOf({ scope: scopeIdentity(scope), kind, id }))?.problem;
  }

  clear(key: ProblemKey): void {
    const { scope, kind, id = '' } = key;
    const identity = identityOf({ scope: scopeIdentity(scope), kind, id });
    const problem = this.#entries.get(identity)?.problem;
    if (problem === undefined) return;
    this.#entries.delete(identity);
    this.listener?.cleared(key, problem);
    this.onChange();
  }

  /** Sets the problem, or clears it if undefined. */
  put(key: ProblemKey, problem: Problem | undefined): void {
    if (problem === undefined) this.clear(key);
    else this.set(key, problem);
  }

  /** Clears every problem of a scope that has ended. */
  clearScope(scope: ProblemScope): void {
    const gone = scopeIdentity(scope);
    this.#clearWhere((entry) => entry.scope === gone, false);
  }

  /** Replaces the problems of a kind in a scope by these, by id. */
  replace(scope: ProblemScope, kind: ProblemKind, problems: ReadonlyMap<string, Problem>): void {
    this.keepOnly(scope, kind, problems);
    for (const [id, problem] of problems) this.set({ scope, kind, id }, problem);
  }

  /** Clears the problems of a kind in a scope, except those with these ids. */
  keepOnly(scope: ProblemScope, kind: ProblemKind, ids: { has: (id: string) => boolean }): void {
    if (this.#entries.size === 0) return;
    const where = scopeIdentity(scope);
    this.#clearWhere((entry) => entry.kind === kind && entry.scope === where && !ids.has(entry.id), true);
  }

  /** Problems and warnings with their kinds. */
  all(): { kind: ProblemKind; isWarning: boolean; problem: Problem }[] {
    return [...this.#entries.values()].map(({ kind, problem }) => ({
      kind,
      isWarning: WARNINGS.has(kind),
      problem,
    }));
  }

  /** Without warnings. */
  list(): Problem[] {
    return this.#where(({ kind }) => !WARNINGS.has(kind));
  }

  warnings(): Problem[] {
    return this.#where(({ kind }) => WARNINGS.has(kind));
  }

  #where(isListed: (entry: Entry) => boolean): Problem[] {
    return [...this.#entries.values()].filter(isListed).map(({ problem }) => problem);
  }

  #clearWhere(isOver: (entry: Entry) => boolean, isTold: boolean): void {
    let changed = false;
    for (const [identity, entry] of this.#entries) {
      if (!isOver(entry)) continue;
      this.#entries.delete(identity);
      changed = true;
      if (isTold) this.listener?.cleared(entry.key, entry.problem);
    }
    if (changed) this.onChange();
  }
}

const identityOf = ({ scope, kind, id }: Pick<Entry, 'scope' | 'kind' | 'id'>): string =>
  JSON.stringify([scope, kind, id]);
