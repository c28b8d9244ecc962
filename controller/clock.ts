// Time as the controller's parts are given it, so that tests decide how it passes.

export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds by a clock that nobody sets: for how long something takes. */
  elapsed(): number;
  /** Calls once, later; answers how to take that back. */
  after(ms: number, call: () => void): () => void;
}

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  after(ms, call) {
    const timer = setTimeout(call, ms);
    return () => clearTimeout(timer);
  },
};

/** RFC 3339, in UTC. */
export const timestamp = (ms: number): string => new Date(ms).toISOString();
