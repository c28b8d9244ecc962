// The etcd client: one proven session, and failover to the next server.
//
// Every call of weft goes through it, so that all parts agree on whether etcd is reachable.
import { setTimeout as sleep } from 'node:timers/promises';

import type {
  Etcd3,
  ILeaseGrantResponse,
  IRangeRequest,
  IRangeResponse,
  IResponseHeader,
  ITxnRequest,
  ITxnResponse,
} from 'etcd3';

import { backoffDelay } from '../core/backoff.js';
import { invalidArgument } from '../core/errors.js';
import { CallFailure, describe, explain, failureOf } from './failures.js';
import { CALL_DEADLINE, Session, type EtcdAccess, type Known } from './session.js';

export interface StoreLog {
  debug(message: string, fields?: object): void;
  info(message: string, fields?: object): void;
  warn(message: string, fields?: object): void;
  error(message: string, fields?: object): void;
}

/** Milliseconds between the starts of two attempts at one server, at most: after an outage sessions are back within 1 s. */
const BACKOFF = { firstMs: 50, lastMs: 600, jitter: { from: 0.5, to: 1 } } as const;
const PROBE_DEADLINE = 1000;
/** Milliseconds before the next server is tried beside a silent one (as RFC 8305, section 5, for addresses). */
const HEAD_START = 250;

/** Identifies one history of etcd. */
interface History {
  clusterId: string;
  raftTerm: bigint;
  /** The largest revision seen in a response. */
  revision: number;
}

export class EtcdClient {
  #urls: readonly string[];
  #session: Session | undefined;
  #history: History | undefined;
  #epoch = 0;
  readonly #closed = new AbortController();
  /** Servers tried without success since the connection was lost. */
  readonly #silent = new Set<string>();
  #lastFailure: { failure: CallFailure; url: string } | undefined;
  readonly #waiters = new Set<() => void>();
  readonly #running: Promise<void>;

  constructor(
    endpoints: readonly string[],
    private readonly access: EtcdAccess,
    private readonly heartbeatKey: string,
    private readonly log: StoreLog,
    /** Called with the reason whenever a connection is lost or cannot be made. */
    private readonly onFailure: (error: string) => void,
  ) {
    this.#urls = this.#normalized(endpoints);
    if (this.urls.length === 0)
      throw invalidArgument('etcd: no endpoint was given', 'Give one as http://192.0.2.1:2379.');
    this.#running = this.#run();
  }

  /** The largest revision seen in a response, 0 before the first. */
  get revision(): number {
    return this.#history?.revision ?? 0;
  }

  /** Takes note of a revision that the watch delivered. */
  saw(revision: number): void {
    if (this.#history !== undefined) this.#history.revision = Math.max(this.#history.revision, revision);
  }

  /** Incremented when etcd's responses belong to another history: a restore, or another cluster. */
  get epoch(): number {
    return this.#epoch;
  }

  /** Waits for the session. @throws the signal's reason, or CallFailure when the client is closed */
  async session(signal: AbortSignal): Promise<Session> {
    for (;;) {
      signal.throwIfAborted();
      this.#throwIfClosed();
      // A session that has just ended is still set here; a caller that took it would fail and return at once, for ever.
      if (this.#session?.ended.aborted === false) return this.#session;
      await this.#change(signal, this.#closed.signal);
    }
  }

  get urls(): readonly string[] {
    return this.#urls;
  }

  /** From now on this cluster is reached at these. */
  moveTo(endpoints: readonly string[]): void {
    this.#urls = this.#normalized(endpoints);
    this.reconnect();
  }

  #normalized(endpoints: readonly string[]): string[] {
    return [...new Set(endpoints.map((endpoint) => normalize(endpoint, this.access.tls)))];
  }

  /** Ends the connection and makes a new one. */
  reconnect(): void {
    this.#session?.end(new CallFailure('connection', 'the route to it changed'));
  }

  async range(request: IRangeRequest): Promise<IRangeResponse> {
    return await this.#call((etcd, options) => etcd.kv.range(request, options), { again: true });
  }

  async txn(request: ITxnRequest): Promise<ITxnResponse> {
    return await this.#call((etcd, options) => etcd.kv.txn(request, options));
  }

  /** A call about users and roles; its answer says nothing about records. */
  async authorize<T extends { header?: IResponseHeader }>(
    method: (etcd: Etcd3, options: { deadline: number }) => Promise<T>,
  ): Promise<T> {
    return await this.#call(method, { observed: false });
  }

  /** Grants an etcd lease and returns its id. @param ttl seconds */
  async grant(ttl: number): Promise<string> {
    const answer = await this.#call<ILeaseGrantResponse>(
      (etcd, options) => etcd.leaseClient.leaseGrant({ TTL: ttl }, options),
      { observed: false },
    );
    return answer.ID;
  }

  /** Revokes an etcd lease without waiting; one that cannot be revoked expires. */
  revoke(id: string): void {
    if (id === '0') return;
    this.#call((etcd, options) => etcd.leaseClient.leaseRevoke({ ID: id }, options), {
      observed: false,
    }).catch((error: unknown) => this.log.debug('etcd lease not revoked', { lease: id, error }));
  }

  /** Remaining seconds of an etcd lease; undefined if it has ended. */
  async timeToLive(id: string): Promise<number | undefined> {
    const answer = await this.#call(
      (etcd, options) => etcd.leaseClient.leaseTimeToLive({ ID: id }, options),
      {
        again: true,
        observed: false,
      },
    );
    const seconds = Number(answer.TTL);
    return seconds < 0 ? undefined : seconds;
  }

  async close(): Promise<void> {
    const failure = new CallFailure('unsent', 'the store was closed');
    this.#closed.abort(failure);
    this.#session?.end(failure);
    await this.#running;
  }

  /**
   * @param options.again the call has no effect, so it may be repeated
   * @throws WeftError UNAVAILABLE and the other errors of explain(); CallFailure of the kinds that callers act on
   */
  async #call<T extends { header?: IResponseHeader }>(
    method: (etcd: Etcd3, options: { deadline: number }) => Promise<T>,
    { again = false, observed = true }: { again?: boolean; observed?: boolean } = {},
  ): Promise<T> {
    const giveUp = performance.now() + CALL_DEADLINE;
    for (let attempt = 1; ; attempt++) {
      const session = await this.#sessionForCall(giveUp);
      try {
        return await session.call(method, { timeout: Math.max(giveUp - performance.now(), 1), observed });
      } catch (error) {
        const failure = failureOf(error);
        if (failure.kind === 'compacted' || failure.kind === 'lease') throw failure;
        // Only a call that certainly had no effect is repeated, on the next server.
        const harmless =
          failure.kind === 'unsent' || (again && failure.kind === 'connection' && this.urls.length > 1);
        if (!harmless || attempt > this.urls.length) throw explain(failure, session.url);
        session.end(failure);
      }
    }
  }

  /** Waits for a session while a server is left to try; in a longer outage it fails at once. */
  async #sessionForCall(giveUp: number): Promise<Session> {
    for (;;) {
      this.#throwIfClosed();
      const session = this.#session;
      if (session !== undefined && !session.ended.aborted) return session;
      const rest = giveUp - performance.now();
      if (this.#silent.size === this.urls.length || rest <= 0) {
        const last = this.#lastFailure;
        if (last !== undefined) throw explain(last.failure, last.url);
        throw explain(new CallFailure('connection', 'no answer in time'), this.urls.join(', '));
      }
      await this.#change(AbortSignal.timeout(Math.ceil(rest)), this.#closed.signal).catch(() => undefined);
    }
  }

  #throwIfClosed(): void {
    if (this.#closed.signal.aborted)
      throw explain(this.#closed.signal.reason as CallFailure, this.urls.join(', '));
  }

  /** Settles when the state of the connection changes, or an attempt has failed. @throws the reason of a signal */
  async #change(...signals: AbortSignal[]): Promise<void> {
    for (const signal of signals) signal.throwIfAborted();
    // Not AbortSignal.any: it keeps every combination of signals that live as long as the process.
    let settle: () => void = () => undefined;
    try {
      await new Promise<void>((resolve) => {
        settle = resolve;
        this.#waiters.add(settle);
        for (const signal of signals) signal.addEventListener('abort', settle, { once: true });
      });
    } finally {
      this.#waiters.delete(settle);
      for (const signal of signals) signal.removeEventListener('abort', settle);
    }
    for (const signal of signals) signal.throwIfAborted();
  }

  #notify(): void {
    for (const waiter of [...this.#waiters]) waiter();
  }

  async #run(): Promise<void> {
    const { signal } = this.#closed;
    // Agents spread over the servers instead of all trying the first one.
    let first = Math.floor(Math.random() * this.urls.length);
    let broken = 0;
    while (!signal.aborted) {
      const session = await this.#dial([...this.urls.slice(first), ...this.urls.slice(0, first)], broken);
      if (session === undefined) return;
      const began = performance.now();
      this.#session = session;
      if (signal.aborted) session.end(signal.reason as CallFailure);
      this.#silent.clear();
      this.#notify();
      await session.untilEnded();
      this.#session = undefined;
      this.#failed(session);
      // A session that lasted is no sign of trouble with this etcd; one that broke at once is.
      broken = performance.now() - began > 5000 ? 0 : broken + 1;
      first = (this.urls.indexOf(session.url) + 1) % this.urls.length;
      await pause(broken <= 1 ? 20 : backOff(broken), signal);
    }
  }

  /**
   * Returns a session with the server that answers first, undefined when the client is closed. The servers get a head start
   * in their order; from then on all are tried repeatedly, so that a silent server does not delay the others.
   */
  async #dial(urls: readonly string[], broken: number): Promise<Session | undefined> {
    const { signal: closed } = this.#closed;
    const enough = new AbortController();
    return await new Promise((resolve) => {
      const stop = (reason: unknown, session?: Session): void => {
        closed.removeEventListener('abort', close);
        enough.abort(reason);
        resolve(session);
      };
      const close = (): void => stop(closed.reason);
      closed.addEventListener('abort', close, { once: true });
      if (closed.aborted) close();
      let begin = Promise.resolve();
      for (const url of urls) {
        let giveWay = (): void => undefined;
        const failed = new Promise<void>((settle) => (giveWay = settle));
        void begin
          .then(() => this.#ask(url, broken, giveWay, enough.signal))
          .then((session) => {
            if (session === undefined) return;
            const late = new CallFailure('unsent', 'another server was faster');
            if (enough.signal.aborted) session.end(late);
            else stop(late, session);
          });
        begin = begin.then(() => Promise.race([failed, pause(HEAD_START, enough.signal)]));
      }
    });
  }

  /** Returns a session with this server as soon as it answers; undefined if it is no longer wanted. */
  async #ask(
    url: string,
    broken: number,
    onFailure: () => void,
    signal: AbortSignal,
  ): Promise<Session | undefined> {
    for (let failures = 0; !signal.aborted; failures++) {
      const started = performance.now();
      const known = (): Known => ({ revision: this.revision, epoch: this.#epoch });
      const session = new Session(url, this.access, this.#observe, known, this.heartbeatKey);
      const end = (): void => session.end(signal.reason as CallFailure);
      signal.addEventListener('abort', end, { once: true });
      // Every third attempt waits longer: a server under load may need it; after a lost packet a short one succeeds first.
      await session.beat(failures % 3 === 2 ? 2 * PROBE_DEADLINE : PROBE_DEADLINE);
      signal.removeEventListener('abort', end);
      if (!session.ended.aborted) return session;
      if (signal.aborted) return undefined;
      this.#failed(session);
      onFailure();
      await pause(Math.max(20, backOff(broken + failures + 1) - (performance.now() - started)), signal);
    }
    return undefined;
  }

  /** Records how a session ended. */
  #failed({ url, ended }: Session): void {
    const failure = ended.reason as CallFailure;
    this.#lastFailure = { failure, url };
    this.#silent.add(url);
    if (!this.#closed.signal.aborted) this.onFailure(describe(failure, url));
    this.#notify();
  }

  /** Compares a response with what was known at its call: etcd does not report a restore from an older copy. */
  readonly #observe = (header: IResponseHeader | undefined, asked: Known): void => {
    if (header === undefined || asked.epoch !== this.#epoch) return;
    const seen: History = {
      clusterId: header.cluster_id,
      raftTerm: BigInt(header.raft_term),
      revision: Number(header.revision),
    };
    const known = this.#history;
    const broken =
      known !== undefined &&
      (seen.clusterId !== known.clusterId ||
        seen.revision < asked.revision ||
        // A term only ever grows, but a server that was cut off may not know the newest yet.
        (seen.raftTerm < known.raftTerm && this.urls.length === 1));
    if (known === undefined || broken) this.#history = seen;
    else {
      known.revision = Math.max(known.revision, seen.revision);
      if (seen.raftTerm > known.raftTerm) known.raftTerm = seen.raftTerm;
    }
    if (!broken) return;
    this.#epoch++;
    this.log.warn('etcd has another history than before: restored from a copy, or another cluster', {
      revision: seen.revision,
      before: asked.revision,
      cluster: seen.clusterId,
    });
    this.#session?.end(new CallFailure('history', 'etcd was restored or replaced'));
  };
}

/** Milliseconds between the starts of two attempts, after this many failures; jittered, so that agents spread. */
const backOff = (failures: number): number => backoffDelay(BACKOFF, failures);

/** Settles when the signal aborts, too. */
const pause = (ms: number, signal: AbortSignal): Promise<void> =>
  sleep(ms, undefined, { signal }).catch(() => undefined);

/** Normalizes an endpoint to `http://HOST:PORT`. @throws WeftError INVALID_ARGUMENT */
function normalize(endpoint: string, tls: EtcdAccess['tls']): string {
  const withScheme = endpoint.includes('://')
    ? endpoint
    : `${tls === undefined ? 'http' : 'https'}://${endpoint}`;
  const url = URL.canParse(withScheme) ? new URL(withScheme) : undefined;
  if (
    url === undefined ||
    !/^https?:$/.test(url.protocol) ||
    url.hostname === '' ||
    !/^\/?$/.test(url.pathname)
  ) {
    throw invalidArgument(`etcd: "${endpoint}" is not an endpoint`, 'Write it as http://192.0.2.1:2379.');
  }
  if (typeof tls === 'object' && url.protocol === 'http:') {
    throw invalidArgument(
      `etcd: TLS files were given, but "${endpoint}" is not served with TLS`,
      'Write it with https://.',
    );
  }
  const port = url.port === '' ? (/:(80|443)\/?$/.exec(endpoint)?.[1] ?? '2379') : url.port;
  return `${url.protocol}//${url.hostname}:${port}`;
}
