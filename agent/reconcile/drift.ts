// Drift of a target: what other processes changed, and how often.
//
// An object that is changed repeatedly becomes a problem; only the regular comparison repairs it then, to avoid a loop.
import type { Logger } from '../../daemon/log.js';
import type { AgentMetrics, Problems, ProblemScope } from '../health/index.js';

/** So many changes within the window are no accident. */
const CONTESTED_AFTER = 5;
const WINDOW_MS = 60_000;

export interface Repair {
  /** The key that drift is counted by, such as an object's. */
  key: string;
  /** Everything found, for the log. */
  found: readonly string[];
  /** For people. */
  what: string;
}

/** Told what one comparison found changed by others, and repaired. */
export type Repaired = (scope: ProblemScope, found: readonly string[]) => void;

export interface DriftOptions {
  problems: Problems;
  metrics: Pick<AgentMetrics, 'drift' | 'totals'>;
  log: Pick<Logger, 'info'>;
  onRepaired?: Repaired;
}

export class Drift {
  /** Times of its repairs, by the key of the object. */
  readonly #times = new Map<string, number[]>();

  constructor(
    private readonly options: DriftOptions,
    private readonly scope: ProblemScope,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Counts what another process changed and weft repaired. */
  note(repaired: readonly Repair[]): void {
    const { metrics, log, onRepaired } = this.options;
    for (const { key, found, what } of repaired) {
      metrics.drift.inc(found.length);
      metrics.totals.repaired += found.length;
      for (const one of found) log.info('repaired', { what: one });
      this.#noteOne(key, what);
    }
    if (repaired.length > 0)
      onRepaired?.(
        this.scope,
        repaired.flatMap(({ found }) => found),
      );
  }

  #noteOne(key: string, what: string): void {
    const times = [...this.#recent(key), this.now()];
    this.#times.set(key, times);
    if (times.length < CONTESTED_AFTER) return;
    this.options.problems.set(
      { scope: this.scope, kind: 'contested', id: key },
      {
        what,
        why: `it was changed by something else ${CONTESTED_AFTER} times within a minute`,
        fix: 'Find what does it (a network manager, a script); weft now repairs it every 10 seconds only.',
      },
    );
  }

  contested(key: string): boolean {
    return this.#recent(key).length >= CONTESTED_AFTER;
  }

  /** Forgets objects that were unchanged for the length of the window. */
  sweep(): void {
    for (const key of [...this.#times.keys()]) this.#recent(key);
  }

  /** Clears everything: the target has ended. */
  clear(): void {
    this.#times.clear();
    this.options.problems.replace(this.scope, 'contested', new Map());
  }

  #recent(key: string): number[] {
    const noted = this.#times.get(key);
    if (noted === undefined) return [];
    const times = noted.filter((time) => time > this.now() - WINDOW_MS);
    if (times.length === 0) this.#times.delete(key);
    else this.#times.set(key, times);
    if (times.length < CONTESTED_AFTER)
      this.options.problems.clear({ scope: this.scope, kind: 'contested', id: key });
    return times;
  }
}
