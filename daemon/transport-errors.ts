// Errors that grpc-js or the network made, in words that say what to check.
import { status, type ServiceError } from '@grpc/grpc-js';

import { unavailable, WeftError } from '../core/errors.js';
import { probeTls } from './tls-probe.js';
import type { ClientTls } from './tls.js';

/** Whom a call went to, and with which certificates. */
export interface CalledAddress {
  /** HOST:PORT, an IPv6 address in brackets. */
  address: string;
  tls: ClientTls | undefined;
}

/** The next step of errors that say no more than that nothing answers; a command names its own options instead. */
export const SEE_THAT_IT_RUNS = 'See that it runs and that the address is right.';

const CHECK_TLS =
  'Either both sides need --tls-ca, --tls-cert and --tls-key (or what a token gave) with certificates of the same CA, or neither.';

const CHECK_THE_WAY = 'See whether it still runs, what its log says, and whether the network to it is up.';

interface Reason {
  matches: RegExp;
  /** What the peer does, behind its name. */
  why: string | ((match: RegExpMatchArray) => string);
  next: string;
}

/** By what the details say; the first that matches. */
const REASONS: readonly Reason[] = [
  { matches: /ECONNREFUSED/, why: 'does not answer: nothing listens there', next: SEE_THAT_IT_RUNS },
  { matches: /ENOENT/, why: 'does not answer: there is no such socket', next: SEE_THAT_IT_RUNS },
  {
    matches: /EACCES|EPERM/,
    why: 'may not be asked: permission denied',
    next: 'Run the command as root.',
  },
  {
    matches: /ENOTFOUND|EAI_AGAIN|Name resolution failed/,
    why: 'cannot be found: the name is not known',
    next: SEE_THAT_IT_RUNS,
  },
  {
    matches: /EHOSTUNREACH|ENETUNREACH|EHOSTDOWN|ENETDOWN|ETIMEDOUT/,
    why: 'cannot be reached from here',
    next: SEE_THAT_IT_RUNS,
  },
  // OpenSSL's words for a first record that is none of TLS.
  {
    matches: /wrong version number|http request|packet length too long|unknown protocol/,
    why: 'answers without TLS, and this side uses it',
    next: CHECK_TLS,
  },
  // An alert of the other side: TLS 1.2 refuses a client's certificate within the handshake.
  {
    matches: /SSL routines:[^:]*:([^:]*alert[^:]*|[^:]*handshake failure)/,
    why: ([, reason]) => `refused the TLS handshake: ${reason}`,
    next: CHECK_TLS,
  },
  {
    matches: /certificate is not yet valid|certificate has expired/,
    why: ([reason]) =>
      `could not be trusted: ${reason} by the clock of this host, which says ${new Date().toISOString()}`,
    next: 'Is that clock right? Set the clocks of all hosts by NTP. If it is, the certificate must be renewed.',
  },
  {
    matches: /Last error: (?:Error: )?(.*?(?:certificate|self.signed).*?)(?:\. Resolution note|\s*$)/i,
    why: ([, reason]) => `could not be trusted: ${reason}`,
    next: CHECK_TLS,
  },
  {
    matches: /SSL routines:[^:]*:([^:]+)|(ERR_SSL_\w+|EPROTO)/,
    why: ([, reason, code]) => `could not be talked to by TLS: ${reason ?? code}`,
    next: CHECK_TLS,
  },
  {
    matches: /Protocol error/,
    why: 'answers with something that is no gRPC',
    next: SEE_THAT_IT_RUNS,
  },
  {
    matches: /Connection dropped|keepalive|GOAWAY|Session closed/i,
    why: 'is not reached any more: the connection was lost during the call',
    next: CHECK_THE_WAY,
  },
  { matches: /ECONNRESET|EPIPE/, why: 'reset the connection', next: CHECK_THE_WAY },
  {
    matches: /Failed to connect|socket hang up|disconnected before secure TLS connection/,
    why: 'closed the connection before it was set up',
    next: CHECK_THE_WAY,
  },
];

/** Undefined for a status that is not the transport's. @param peer who was called */
export function explainTransport(error: ServiceError, peer: string): WeftError | undefined {
  const options = { cause: error };
  const { details } = error;
  switch (error.code) {
    case status.UNAVAILABLE:
      for (const { matches, why, next } of REASONS) {
        const match = matches.exec(details);
        if (match !== null)
          return unavailable(`${peer} ${typeof why === 'string' ? why : why(match)}`, next, options);
      }
      return unavailable(`${peer} is not available: ${details}`, SEE_THAT_IT_RUNS, options);
    case status.DEADLINE_EXCEEDED:
      // The call never left: grpc-js was still setting the connection up.
      if (/waiting for (LB pick|name resolution)/i.test(details)) {
        return new WeftError(
          'DEADLINE_EXCEEDED',
          `${peer} did not answer in time: no connection was set up`,
          'See that its host is up, and that nothing on the way drops packets (a firewall, a cable).',
          options,
        );
      }
      return new WeftError(
        'DEADLINE_EXCEEDED',
        `${peer} did not answer in time`,
        'Try again; its log may say why.',
        options,
      );
    case status.UNIMPLEMENTED:
      return new WeftError(
        'UNIMPLEMENTED',
        `${peer} does not know this call`,
        'Run the same version of weft on both sides.',
        options,
      );
    case status.CANCELLED:
      return new WeftError('ABORTED', `the call to ${peer} was given up`, undefined, options);
    default:
      return undefined;
  }
}

/** Whether the peer closed the connection and gave no reason. */
export const isClosed = (error: WeftError): boolean =>
  error.code === 'UNAVAILABLE' &&
  isServiceError(error.cause) &&
  /Failed to connect/.test(error.cause.details);

/**
 * The same error with its cause, where the peer closed the connection and gave no reason: grpc-js says the same of a server with
 * TLS that is called without, of one that does not trust the certificate, and of one that died meanwhile.
 */
export async function explainClosed(
  error: WeftError,
  peer: string,
  { address, tls }: CalledAddress,
): Promise<WeftError> {
  const found = await probeTls(address, tls);
  const options = { cause: error.cause };
  if (tls === undefined) {
    if (found === 'silent') return error;
    return unavailable(`${peer} uses TLS, and this side does not`, CHECK_TLS, options);
  }
  if (found !== 'closed') return error;
  return unavailable(
    `${peer} ended the connection right after the TLS handshake, as where this side’s certificate is not trusted`,
    CHECK_TLS,
    options,
  );
}

export function isServiceError(error: unknown): error is ServiceError {
  return error instanceof Error && typeof (error as Partial<ServiceError>).code === 'number';
}
