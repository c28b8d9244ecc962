// One connection to one etcd server: calls that end within their deadline, a heartbeat that finds a stalled server, and an
// end that everybody who hangs on it learns of. Which server is next is the business of client.ts.
import { setTimeout as sleep } from 'node:timers/promises';

import { Etcd3, type IOptions, type IResponseHeader } from 'etcd3';

import { CallFailure, failureOf } from './failures.js';

export interface TlsFiles {
  ca: Buffer | string;
  cert?: Buffer | string;
  key?: Buffer | string;
}

/** Milliseconds that a call may take. */
export const CALL_DEADLINE = 2500;
/** A server that was silent for so long is asked for a sign of life; with the call's own deadline a stall is found in 4 s. */
const HEARTBEAT_AFTER = 2000;
const HEARTBEAT_DEADLINE = 2000;

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

const never = { dispose: () => undefined };

/**
 * Replaces etcd3's retries and circuit breakers, which would turn a deadline of 2 s into 6. The failure goes out wrapped,
 * for at the sight of a plain one the pool closes every channel of the host, and the watch with it.
 */
const once: Policy = {
  _altReturn: undefined as never,
  onSuccess: () => never,
  onFailure: () => never,
  execute: async (fn) => {
    try {
      return await fn({ signal: new AbortController().signal });
    } catch (error) {
      throw failureOf(error);
    }
  },
};

/** The newest revision that was known at some time, and of which history. */
export interface Known {
  revision: number;
  epoch: number;
}

let serial = 0;

export class Session {
  readonly #etcd: Etcd3;
  readonly #ended = new AbortController();
  #heardAt = performance.now();
  #beating: Promise<void> | undefined;

  constructor(
    readonly url: string,
    tls: TlsFiles | undefined,
    /** Told of the header of every answer that the whole cluster stands behind, with what was known at the call. */
    private readonly observe: (header: IResponseHeader | undefined, asked: Known) => void,
    private readonly known: () => Known,
    /** A key whose reading tells that the server answers and has a leader. */
    private readonly heartbeatKey: string,
  ) {
    const buffer = (file: Buffer | string): Buffer => Buffer.from(file);
    this.#etcd = new Etcd3({
      hosts: url,
      ...(tls &&
        url.startsWith('https:') && {
          credentials: {
            rootCertificate: buffer(tls.ca),
            ...(tls.key !== undefined && { privateKey: buffer(tls.key) }),
            ...(tls.cert !== undefined && { certChain: buffer(tls.cert) }),
          },
        }),
      faultHandling: { global: once, host: () => once },
      grpcOptions: {
        'grpc.keepalive_time_ms': 3000,
        'grpc.keepalive_timeout_ms': 2000,
        // The heartbeat's answers keep etcd from counting these pings as too many.
        'grpc.keepalive_permit_without_calls': 1,
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 1000,
        'grpc.enable_retries': 0,
        'grpc.enable_http_proxy': 0,
        'grpc.service_config_disable_resolution': 1,
        // Values that others wrote may be as large as they please.
        'grpc.max_receive_message_length': -1,
        // Channels with equal options share a connection, and its waiting times after a failure: a new session dials anew.
        'weft.session': ++serial,
      },
    });
  }

  /** Aborted when the connection is given up, with the CallFailure as its reason. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  end(failure: CallFailure): void {
    if (this.#ended.signal.aborted) return;
    this.#ended.abort(failure);
    this.#etcd.close();
  }

  /**
   * @param observed the answer's revision is the cluster's; a lease's time, for one, is told by the leader through a
   *   server that may lag behind
   * @throws CallFailure
   */
  async call<T extends { header?: IResponseHeader }>(
    method: (etcd: Etcd3, options: { deadline: number }) => Promise<T>,
    { timeout = CALL_DEADLINE, observed = true }: { timeout?: number; observed?: boolean } = {},
  ): Promise<T> {
    this.#throwIfEnded();
    const asked = this.known();
    try {
      const answer = await method(this.#etcd, { deadline: Date.now() + timeout });
      this.heard();
      if (observed) this.observe(answer.header, asked);
      return answer;
    } catch (error) {
      const failure = failureOf(error);
      // Whoever lost the connection in the middle of a call should not wait for the next heartbeat.
      if (failure.kind === 'connection') void this.beat(HEARTBEAT_DEADLINE);
      throw failure;
    }
  }

  /** @throws CallFailure */
  async watch(): ReturnType<Etcd3['watchClient']['watch']> {
    this.#throwIfEnded();
    return await this.#etcd.watchClient.watch();
  }

  /** @throws CallFailure */
  async keepAlive(): ReturnType<Etcd3['leaseClient']['leaseKeepAlive']> {
    this.#throwIfEnded();
    return await this.#etcd.leaseClient.leaseKeepAlive();
  }

  /** Called for whatever came by a stream. */
  heard(): void {
    this.#heardAt = performance.now();
  }

  /**
   * Asks for a sign of life; ends the session where there is none. One question at a time: whoever can wait for less than the
   * one that asked gives the session up earlier.
   */
  async beat(timeout: number): Promise<void> {
    this.#beating ??= this.#ask(timeout).finally(() => {
      this.#beating = undefined;
    });
    const giveUp = setTimeout(() => this.end(new CallFailure('connection', 'no answer in time')), timeout);
    await this.#beating.finally(() => clearTimeout(giveUp));
  }

  async #ask(timeout: number): Promise<void> {
    if (this.#ended.signal.aborted) return;
    const asked = this.known();
    try {
      const answer = await this.#etcd.kv.range(
        { key: Buffer.from(this.heartbeatKey), keys_only: true, limit: 1 },
        { deadline: Date.now() + timeout },
      );
      this.heard();
      this.observe(answer.header, asked);
    } catch (error) {
      this.end(failureOf(error));
    }
  }

  /** Keeps asking for signs of life, and settles when the session has ended: at once, whatever is still on its way. */
  async untilEnded(): Promise<void> {
    const { signal } = this.#ended;
    void this.#heartbeat();
    if (signal.aborted) return;
    await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
  }

  async #heartbeat(): Promise<void> {
    const { signal } = this.#ended;
    while (!signal.aborted) {
      const rest = this.#heardAt + HEARTBEAT_AFTER - performance.now();
      if (rest > 0) await sleep(rest, undefined, { signal }).catch(() => undefined);
      else await this.beat(HEARTBEAT_DEADLINE);
    }
  }

  #throwIfEnded(): void {
    if (this.#ended.signal.aborted) throw this.#ended.signal.reason;
  }
}
