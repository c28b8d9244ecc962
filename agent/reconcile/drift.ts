// Drift of a target: what something else changed, and how often.
//
// What is changed again and again is reported, and then put right by the regular comparison alone, not fought over in a loop.
import type { Logger } from '../../daemon/log.js';
import type { AgentMetrics, Problems, ProblemScope } from '../health/index.js';

/** This often within the window, and it is no accident. */
const CONTESTED_AFTER = 5;
const WINDOW_MS = 60_000;

export interface Repair {
  /** What its drift is counted under: the key of an object, for instance. */
  key: string;
  /** For the log: all that was found of it. */
  found: readonly string[];
  /** For people. */
  what: string;
}

export interface DriftOptions {
  problems: Problems;
  metrics: Pick<AgentMetrics, 'drift' | 'totals'>;
  log: Pick<Logger, 'info'>;
}

export class Drift {
  /** By the key of the object: when it was put right. */
  readonly #times = new Map<string, number[]>();

  constructor(
    private readonly options: DriftOptions,
    private readonly scope: ProblemScope,
    private readonly now: () => number = () => performance.now(),
  ) {}

  /** Counts what was changed by something else, and is right again. */
  note(repaired: readonly Repair[]): void {
    const { metrics, log } = this.options;
    for (const { key, found, what } of repaired) {
      metrics.drift.inc(found.length);
      metrics.totals.repaired += found.length;
      for (const one of found) log.info('put right', { what: one });
      this.#noteOne(key, what);
    }
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
        fix: 'Find what does it (a network manager, a script); weft now puts it right every 10 seconds only.',
      },
    );
  }

  contested(key: string): boolean {
    return this.#recent(key).length >= CONTESTED_AFTER;
  }

  /** Forgets what nothing has changed for a while. */
  sweep(): void {
    for (const key of [...this.#times.keys()]) this.#recent(key);
  }

  /** The target is gone. */
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
