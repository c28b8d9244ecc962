// Failures of calls to etcd, told apart by how the caller reacts.
//
// Each is also translated into an error text with a next step.
import {
  EtcdAuthenticationFailedError,
  EtcdInvalidAuthTokenError,
  EtcdLeaseInvalidError,
  EtcdPermissionDeniedError,
  GRPCOutOfRangeError,
  GRPCResourceExhastedError,
  GRPCUnauthenticatedError,
  type EtcdError,
} from 'etcd3';

import { messageOf, permissionDenied, resourceExhausted, unavailable, WeftError } from '../core/errors.js';

export type FailureKind =
  /** etcd did not answer, or could not act; whether the call took effect is unknown. */
  | 'connection'
  /** The call never left this process. */
  | 'unsent'
  /** The requested revision is compacted. */
  | 'compacted'
  /** The requested revision does not exist yet. */
  | 'future'
  /** The etcd lease does not exist. */
  | 'lease'
  | 'denied'
  /** The password of etcd's user cannot be read. */
  | 'password'
  | 'full'
  /** etcd's responses belong to another history than before. */
  | 'history';

export class CallFailure extends Error {
  override readonly name = 'CallFailure';
  constructor(
    readonly kind: FailureKind,
    message: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

export function failureOf(error: unknown): CallFailure {
  if (error instanceof CallFailure) return error;
  if (error instanceof WeftError) return new CallFailure('password', error.message, { cause: error });
  const message = messageOf(error)
    .replace(/^\w+: /, '')
    .replace(/^\d+ [A-Z_]+: /, '');
  return new CallFailure(kindOf(error as EtcdError, message), message, { cause: error });
}

function kindOf(error: Error, message: string): FailureKind {
  if (error instanceof EtcdLeaseInvalidError) return 'lease';
  if (error instanceof GRPCOutOfRangeError && message.includes('compacted')) return 'compacted';
  if (error instanceof GRPCOutOfRangeError && message.includes('future')) return 'future';
  if (error instanceof GRPCResourceExhastedError && message.includes('space')) return 'full';
  if (
    error instanceof EtcdPermissionDeniedError ||
    error instanceof EtcdAuthenticationFailedError ||
    error instanceof EtcdInvalidAuthTokenError ||
    error instanceof GRPCUnauthenticatedError ||
    message.includes(NO_USER)
  ) {
    return 'denied';
  }
  // grpc-js's texts for a channel that has no connection to send the call on.
  return /No connection established|Name resolution failed/.test(message) ? 'unsent' : 'connection';
}

/** What etcd answers to a call without a user, once it has authentication. */
const NO_USER = 'user name is empty';

/** Why etcd refused a call, and the next step. */
function refusalOf({ message }: CallFailure): { why: string; fix: string } {
  if (message.includes(NO_USER))
    return {
      why: 'it wants a user, and none was given',
      fix: 'Give --etcd-username and --etcd-password-file, or the certificate of a user (--etcd-cert, --etcd-key).',
    };
  if (message.includes('invalid user ID or password'))
    return {
      why: 'it has no such user with this password',
      fix: 'Compare --etcd-username and the file of --etcd-password-file with `etcdctl user list`.',
    };
  return {
    why: message,
    fix: 'Log in as a user (--etcd-username, or the certificate --etcd-cert) whose role may read and write all keys below the prefix.',
  };
}

/** The error that a user sees. */
export function explain(failure: CallFailure, url: string): WeftError {
  const cause = { cause: failure };
  switch (failure.kind) {
    case 'denied':
      return permissionDenied(describe(failure, url), refusalOf(failure).fix, cause);
    case 'password':
      return failure.cause as WeftError;
    case 'full':
      return resourceExhausted(
        `etcd at ${url} takes no more data: ${failure.message}`,
        'Compact and defragment it, or raise its --quota-backend-bytes, then disarm the alarm (etcdctl alarm disarm).',
        cause,
      );
    default:
      return unavailable(
        describe(failure, url),
        isAboutTls(reasonOf(failure))
          ? 'Check the certificates: --etcd-ca is the CA of etcd, --etcd-cert and --etcd-key are what it asks of clients.'
          : 'Check that etcd runs and that this machine reaches it; weft continues by itself once it answers.',
        cause,
      );
  }
}

export function describe(failure: CallFailure, url: string): string {
  switch (failure.kind) {
    case 'history':
      return `etcd at ${url}: ${failure.message}`;
    case 'denied':
      return `etcd at ${url} refused the call: ${refusalOf(failure).why}`;
    case 'password':
      return failure.message;
    default:
      return `etcd at ${url} does not answer: ${reasonOf(failure)}`;
  }
}

/** The cause within grpc-js's wordy messages. Equal causes give equal texts, because it is shown as a state and compared. */
function reasonOf({ message }: CallFailure): string {
  const line = message.replaceAll(/\s+/g, ' ');
  // "…Last error: CAUSE (TIME). Resolution note: …"
  const inner =
    /Last error: (?:Error: )?(.*?)(?: \(\d{4}-\d\d-\d\dT[^)]*\))?\.?(?: Resolution note:.*)?$/.exec(
      line,
    )?.[1] ?? line;
  if (inner.startsWith('Deadline exceeded')) return 'no answer in time';
  // OpenSSL: "…:SSL routines:ssl3_read_bytes:sslv3 alert bad certificate:…/rec_layer_s3.c:…"
  const tls = /SSL routines:[^:]*:([^:]+)/.exec(inner)?.[1];
  return tls === undefined ? inner : `TLS failed: ${tls.replace(/^(?:ssl|tls)\S* /, '')}`;
}

const isAboutTls = (reason: string): boolean => /TLS failed|certificate/.test(reason);
