// A signal with a deadline.
//
// AbortSignal.any holds its sources weakly: in Node.js 20 an AbortSignal.timeout that nothing else refers to is collected with
// the next garbage, and its time never comes.

/** Runs `work` with a signal that aborts with `signal`, or when the time is over. @param signal absent: the time alone */
export async function withDeadline<T>(
  signal: AbortSignal | undefined,
  ms: number,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const both = new AbortController();
  const onAbort = (): void => both.abort(signal?.reason);
  const timer = setTimeout(() => both.abort(new Error(`no answer within ${ms / 1000} s`)), ms);
  signal?.addEventListener('abort', onAbort, { once: true });
  if (signal?.aborted === true) onAbort();
  try {
    return await work(both.signal);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', onAbort);
  }
}
