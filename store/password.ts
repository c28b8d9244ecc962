// Password authentication at etcd: a token that the calls of one connection carry as metadata.
//
// etcd3's own authentication is not used: it dials a second connection for every token, sets no deadline, and begins streams
// with a token that has ended, so that a watch is refused although the password is right.
import { InterceptingCall, type Interceptor, type StatusObject } from '@grpc/grpc-js';

import { messageOf } from '../core/errors.js';

/** A user of etcd. */
export interface EtcdUser {
  readonly name: string;
  /** Read for every token, so that a changed password file counts from the next token on. @throws WeftError */
  readonly password: () => string;
}

/** In place of etcd's own text, for which etcd3 would repeat the call without end. */
const ENDED = 'the token of the user has ended';

/**
 * Texts of etcd (api/v3rpc/rpctypes/error.go). A token ends unused after --auth-token-ttl, when etcd restarts, and when users
 * change; the user name is missing where authentication was enabled after the token was asked for.
 */
const INVALID =
  /invalid auth token|revision of auth store is old|revision in header is old|user name is empty/;

export class Token {
  /** '': etcd has no authentication. */
  #value: string | undefined;

  constructor(private readonly authenticate: () => Promise<string>) {}

  /** Whether a call failed for the token alone. etcd checks it before it does anything. */
  static hasEnded(error: unknown): boolean {
    return messageOf(error).includes(ENDED);
  }

  get isKnown(): boolean {
    return this.#value !== undefined;
  }

  /** @throws what `authenticate` does */
  async renew(): Promise<void> {
    try {
      this.#value = await this.authenticate();
    } catch (error) {
      if (!messageOf(error).includes('authentication is not enabled')) throw error;
      this.#value = '';
    }
  }

  readonly interceptor: Interceptor = (options, nextCall) =>
    new InterceptingCall(nextCall(options), {
      start: (metadata, _listener, next) => {
        // Not with the request for a new one: etcd would refuse that, too, for the old one.
        const asks = options.method_definition.path.endsWith('/Authenticate');
        if (!asks && this.#value !== undefined && this.#value !== '') metadata.set('token', this.#value);
        next(metadata, {
          onReceiveStatus: (status: StatusObject, pass: (status: StatusObject) => void) =>
            pass(INVALID.test(status.details) ? { ...status, details: ENDED } : status),
        });
      },
    });
}
