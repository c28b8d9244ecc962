// One connection to one etcd server.
//
// Calls end within their deadline, a heartbeat detects a stalled server, and every user of the session is notified of its
// end. client.ts chooses the server.
import { isIP } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

import { ChannelCredentials } from '@grpc/grpc-js';
import { Etcd3, type IOptions, type IResponseHeader } from 'etcd3';

import { messageOf } from '../core/errors.js';
import { ETCD_NAME, servesAs } from '../core/identity.js';
import { CallFailure, failureOf } from './failures.js';
import { type EtcdUser, Token } from './password.js';

export interface TlsFiles {
  ca: Buffer | string;
  cert?: Buffer | string;
  key?: Buffer | string;
}

/** By what etcd knows the client, and the client etcd. */
export interface EtcdAccess {
  /** A function where certificates are renewed: each connection reads them anew. */
  tls?: TlsFiles | (() => TlsFiles | undefined);
  user?: EtcdUser;
}

/** Milliseconds that a call may take. */
export const CALL_DEADLINE = 2500;
/** Milliseconds of silence before a liveness check; with the call's own deadline a stall is detected within 4 s. */
const HEARTBEAT_AFTER = 2000;
const HEARTBEAT_DEADLINE = 2000;

type Policy = NonNullable<NonNullable<IOptions['faultHandling']>['global']>;

const never = { dispose: () => undefined };

/**
 * Replaces etcd3's retries and circuit breakers, which would turn a deadline of 2 s into 6. The failure is wrapped, since
 * the pool reacts to a plain one by closing every channel of the host, and the watch with it.
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

/** The newest revision known at some time, and the history it belongs to. */
export interface Known {
  revision: number;
  epoch: number;
}

/** etcd's certificate must be for an etcd of weft's, or for that host. */
function secure(tls: TlsFiles | undefined, host: string): ChannelCredentials {
  const buffer = (file: Buffer | string | undefined): Buffer | null =>
    file === undefined ? null : Buffer.from(file);
  return ChannelCredentials.createSsl(buffer(tls?.ca), buffer(tls?.key), buffer(tls?.cert), {
    checkServerIdentity: servesAs(ETCD_NAME, host),
  });
}

/** etcd3 has no option for the check of the server's name. Its hosts make their clients when they are first used. */
function useCredentials(etcd: Etcd3, credentials: ChannelCredentials): void {
  const { pool } = etcd as unknown as { pool: { hosts: { channelCredentials: ChannelCredentials }[] } };
  for (const host of pool.hosts) host.channelCredentials = credentials;
}

/** etcd's answer to a call during which its users or roles were changed. It checks that before it does anything. */
const OLDER = /revision in header is old|revision of auth store is old/;
/** A role that is made is several changes. */
const MOST_CHANGES = 10;

async function unlessOlder<T>(call: () => Promise<T>): Promise<T> {
  for (let changes = 0; ; changes++) {
    try {
      return await call();
    } catch (error) {
      if (changes === MOST_CHANGES || !OLDER.test(messageOf(error))) throw error;
    }
  }
}

let serial = 0;

export class Session {
  readonly #etcd: Etcd3;
  readonly #token: Token | undefined;
  readonly #ended = new AbortController();
  #heardAt = performance.now();
  #beating: Promise<void> | undefined;

  constructor(
    readonly url: string,
    { tls, user }: EtcdAccess,
    /** Called with the header of every response that the whole cluster agrees on, and with what was known at the call. */
    private readonly observe: (header: IResponseHeader | undefined, asked: Known) => void,
    private readonly known: () => Known,
    /** A key whose reading proves that the server answers and has a leader. */
    private readonly heartbeatKey: string,
  ) {
    const isSecure = url.startsWith('https:');
    const host = new URL(url).hostname.replaceAll(/[[\]]/g, '');
    this.#token = user && new Token(() => this.#authenticate(user));
    this.#etcd = new Etcd3({
      hosts: url,
      faultHandling: { global: once, host: () => once },
      grpcOptions: {
        // No pings of gRPC's own: the heartbeat asks after any silence, and pings are a seventh of what an idle node costs etcd.
        'grpc.initial_reconnect_backoff_ms': 100,
        'grpc.max_reconnect_backoff_ms': 1000,
        'grpc.enable_retries': 0,
        'grpc.enable_http_proxy': 0,
        'grpc.service_config_disable_resolution': 1,
        // Values written by other programs may be of any size.
        'grpc.max_receive_message_length': -1,
        // Channels with equal options share a connection, and its backoff after a failure: a new session dials anew.
        'weft.session': ++serial,
        ...(this.#token !== undefined && { interceptors: [this.#token.interceptor] }),
        // RFC 6066 §3 allows no address as a server name.
        ...(isSecure && isIP(host) !== 0 && { 'grpc.ssl_target_name_override': ETCD_NAME }),
      },
    });
    if (isSecure) useCredentials(this.#etcd, secure(typeof tls === 'function' ? tls() : tls, host));
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
   * @param observed the response's revision is the cluster's; not so a lease's time, for one, which the leader reports
   *   through a server that may lag behind
   * @throws CallFailure
   */
  async call<T extends { header?: IResponseHeader }>(
    method: (etcd: Etcd3, options: { deadline: number }) => Promise<T>,
    { timeout = CALL_DEADLINE, observed = true }: { timeout?: number; observed?: boolean } = {},
  ): Promise<T> {
    this.#throwIfEnded();
    const asked = this.known();
    try {
      const answer = await this.#allowed(() => method(this.#etcd, { deadline: Date.now() + timeout }));
      this.heard();
      if (observed) this.observe(answer.header, asked);
      return answer;
    } catch (error) {
      const failure = failureOf(error);
      // A caller that lost the connection during a call should not wait for the next heartbeat.
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

  /** Called for every message of a stream. */
  heard(): void {
    this.#heardAt = performance.now();
  }

  /**
   * Checks that the server is alive; ends the session if it is not. One check at a time: a caller with less time than the
   * first one ends the session earlier.
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
      const answer = await this.#allowed(() =>
        this.#etcd.kv.range(
          { key: Buffer.from(this.heartbeatKey), keys_only: true, limit: 1 },
          { deadline: Date.now() + timeout },
        ),
      );
      this.heard();
      this.observe(answer.header, asked);
    } catch (error) {
      this.end(failureOf(error));
    }
  }

  /** Makes a call with the user's token, and once more with a new one where the first has ended. */
  async #allowed<T>(call: () => Promise<T>): Promise<T> {
    const token = this.#token;
    if (token === undefined) return await unlessOlder(call);
    if (!token.isKnown) await token.renew();
    try {
      return await call();
    } catch (error) {
      if (!Token.hasEnded(error)) throw error;
      await token.renew();
      return await call();
    }
  }

  async #authenticate({ name, password }: EtcdUser): Promise<string> {
    const credentials = { name, password: password() };
    const { token } = await this.#etcd.auth.authenticate(credentials, {
      deadline: Date.now() + CALL_DEADLINE,
    });
    return token;
  }

  /** Repeats the liveness check, and settles as soon as the session ends, whatever is still in flight. */
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
