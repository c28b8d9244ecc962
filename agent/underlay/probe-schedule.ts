// Which paths are probed next: pure, by the times that it is given.
//
// Always: at most so many packets a turn; a neighbour that has not been asked for lately is asked for only where few such
// have been, so that probes never fill the kernel's neighbour table. Nothing is skipped for long: who waits longest is next,
// and what nobody may ask yet is waited for.

/** Packets of a turn, which comes once a second. */
export const PACKETS = 16;
/** A resolved neighbour stays in the kernel's table for about this long after it was needed. */
const NEIGHBOUR_MS = 60_000;
/** The packets of a turn that paths in question leave to the others. */
const LEFT_TO_OTHERS = 4;

export interface Waiting {
  key: string;
  neighbour: string;
  /** Packets that its next probe takes. */
  packets: number;
  /** It was missed, and why is not known yet. */
  isInQuestion: boolean;
  /** Milliseconds for which it is not asked again. */
  restMs: number;
}

export class ProbeSchedule {
  readonly #asked = new Map<string, number>();
  /** When each neighbour was needed last. */
  readonly #neighbours = new Map<string, number>();
  #fresh = 1;
  #last: number | undefined;

  /**
   * @param now milliseconds of a clock that never steps
   * @param budget packets that are left in this turn
   * @param limits `most`: distinct neighbours within a minute; `mayAsk`: whether the kernel has room for one, or knows it
   */
  pick<W extends Waiting>(
    now: number,
    paths: readonly W[],
    budget: number,
    { most, mayAsk }: { most: number; mayAsk: (neighbour: string) => boolean },
  ): W[] {
    this.#forget(now, paths, most);
    const chosen: W[] = [];
    let left = budget;
    /** @returns whether others may follow: what waits to be the next neighbour lets nobody pass, or its turn would never come */
    const take = (path: W, keep: number): boolean => {
      if (path.packets > left - keep) return false;
      if (!this.#neighbours.has(path.neighbour)) {
        if (this.#fresh < 1 || this.#neighbours.size >= most) return false;
        if (!mayAsk(path.neighbour)) return true;
        this.#fresh -= 1;
      }
      left -= path.packets;
      this.#asked.set(path.key, now);
      this.#neighbours.set(path.neighbour, now);
      chosen.push(path);
      return true;
    };
    const byAge = paths.toSorted((a, b) => this.#since(a) - this.#since(b));
    const keep = byAge.some(({ isInQuestion }) => !isInQuestion) ? LEFT_TO_OTHERS : 0;
    for (const path of byAge) if (path.isInQuestion && !take(path, keep)) break;
    const isRested = (path: W): boolean => now - this.#since(path) >= path.restMs;
    for (const path of byAge) if (!path.isInQuestion && isRested(path) && !take(path, 0)) break;
    return chosen;
  }

  #since({ key }: Waiting): number {
    return this.#asked.get(key) ?? -Infinity;
  }

  /** New neighbours come evenly: all agents of a kernel that start at once would fill its table before they see it fill. */
  #forget(now: number, paths: readonly Waiting[], most: number): void {
    const rate = most / (NEIGHBOUR_MS / 1000);
    const seconds = this.#last === undefined ? 1 : (now - this.#last) / 1000;
    this.#fresh = Math.min(Math.max(1, rate), this.#fresh + seconds * rate);
    this.#last = now;
    for (const [neighbour, at] of this.#neighbours)
      if (now - at >= NEIGHBOUR_MS) this.#neighbours.delete(neighbour);
    if (this.#asked.size <= paths.length) return;
    const there = new Set(paths.map(({ key }) => key));
    for (const key of this.#asked.keys()) if (!there.has(key)) this.#asked.delete(key);
  }
}
