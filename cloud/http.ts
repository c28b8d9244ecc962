// HTTP calls to a cloud: one at a time, at a bounded rate, and again after a failure that passes.
//
// A cloud counts the calls of the whole account. Many nodes that start at once, or that all repeat what was refused, would keep
// each other and everybody else of the account from it.
import { setTimeout as delay } from 'node:timers/promises';

import { backoffDelay, type BackoffFigures } from '../core/backoff.js';
import { withDeadline } from '../core/deadline.js';
import { messageOf, unavailable } from '../core/errors.js';
import { Mutex } from '../core/keyed-mutex.js';

export interface HttpRequest {
  /** What is asked, for errors. */
  what: string;
  url: string;
  method?: 'GET' | 'POST' | 'PUT' | 'DELETE';
  headers?: Readonly<Record<string, string>>;
  body?: string;
  timeoutMs?: number;
}

export interface HttpAnswer {
  status: number;
  text: string;
  header: (name: string) => string | undefined;
}

const TIMEOUT_MS = 10_000;
/** A list of a thousand routes has less. */
const MOST_BYTES = 16 * 1024 * 1024;

/** @throws WeftError UNAVAILABLE without an answer; the signal's reason */
export async function send(
  { what, url, method = 'GET', headers = {}, body, timeoutMs = TIMEOUT_MS }: HttpRequest,
  signal: AbortSignal,
): Promise<HttpAnswer> {
  signal.throwIfAborted();
  try {
    return await withDeadline(signal, timeoutMs, async (until) => {
      const answer = await fetch(url, {
        ...{ method, headers, signal: until, redirect: 'error' },
        ...(body !== undefined && { body }),
      });
      const length = Number(answer.headers.get('content-length') ?? 0);
      if (length > MOST_BYTES) throw new Error(`the answer has ${length} bytes`);
      return {
        status: answer.status,
        text: await answer.text(),
        header: (name) => answer.headers.get(name) ?? undefined,
      };
    });
  } catch (error) {
    signal.throwIfAborted();
    const { host } = new URL(url);
    throw unavailable(
      `${what}: ${host} does not answer: ${causeOf(error)}`,
      `See that this host reaches ${host}, and that the region and the endpoint are right.`,
      { cause: error },
    );
  }
}

/** fetch says "fetch failed", and its cause says why. */
const causeOf = (error: unknown): string =>
  error instanceof Error && error.cause instanceof Error
    ? error.cause.message || messageOf(error)
    : messageOf(error);

/** How a call ended that may be made again. */
export class Temporary extends Error {
  /** @param last the error if no later attempt succeeds @param afterMs how long the cloud asks to wait */
  constructor(
    readonly last: Error,
    readonly afterMs = 0,
  ) {
    super(last.message);
  }
}

export interface CallsOptions {
  signal: AbortSignal;
  /** Between two calls that change something, in milliseconds. */
  paceMs?: number;
  backoff?: BackoffFigures;
  attempts?: number;
}

/** AWS and Google both ask for jitter: full, since every node has the same reason to come back. */
const BACKOFF: BackoffFigures = { firstMs: 500, lastMs: 20_000, jitter: { from: 0.5, to: 1 } };
const ATTEMPTS = 6;
/** EC2 refills five changes a second, of the whole account. */
const PACE_MS = 200;
/** No Retry-After keeps a call longer. */
const MOST_WAIT_MS = 60_000;

export class Calls {
  readonly #one = new Mutex();
  #changedAt = -Infinity;

  constructor(private readonly options: CallsOptions) {}

  get signal(): AbortSignal {
    return this.options.signal;
  }

  /** @param call throws Temporary where it may be made again @throws what the last attempt threw; the signal's reason */
  run<T>(call: () => Promise<T>, { changes = false }: { changes?: boolean } = {}): Promise<T> {
    return this.#one.run(() => this.#attempts(call, changes));
  }

  async #attempts<T>(call: () => Promise<T>, changes: boolean): Promise<T> {
    const { signal, backoff = BACKOFF, attempts = ATTEMPTS, paceMs = PACE_MS } = this.options;
    for (let failures = 0; ; failures++) {
      signal.throwIfAborted();
      if (changes) {
        await this.#pause(this.#changedAt + paceMs - performance.now());
        this.#changedAt = performance.now();
      }
      try {
        return await call();
      } catch (error) {
        if (!(error instanceof Temporary)) throw error;
        if (failures + 1 >= attempts) throw error.last;
        await this.#pause(Math.max(backoffDelay(backoff, failures), Math.min(error.afterMs, MOST_WAIT_MS)));
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    if (ms <= 0) return;
    const { signal } = this.options;
    await delay(ms, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
