// Errors as CNI has them: a number, a sentence, and what to do next.
//
// Numbers below 100 are the specification's (CNI SPEC, "Error"); those from 100 on are weft's.
import { messageOf, WeftError, type ErrorCode } from '../../core/errors.js';

export const CODE = {
  version: 1,
  unknownContainer: 3,
  environment: 4,
  decode: 6,
  config: 7,
  namespace: 8,
  tryLater: 11,
  /** STATUS: no ADD can succeed. */
  notAvailable: 50,
  /** weft's own. */
  taken: 101,
  exhausted: 102,
  refused: 103,
  internal: 999,
} as const;

export class CniError extends Error {
  override readonly name = 'CniError';

  constructor(
    readonly code: number,
    message: string,
    readonly details = '',
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

const CODES: Partial<Record<ErrorCode, number>> = {
  INVALID_ARGUMENT: CODE.config,
  NOT_FOUND: CODE.config,
  UNAVAILABLE: CODE.tryLater,
  DEADLINE_EXCEEDED: CODE.tryLater,
  ABORTED: CODE.tryLater,
  ALREADY_EXISTS: CODE.taken,
  RESOURCE_EXHAUSTED: CODE.exhausted,
  FAILED_PRECONDITION: CODE.refused,
  PERMISSION_DENIED: CODE.refused,
};

export interface ErrorBody {
  cniVersion: string;
  code: number;
  msg: string;
  details: string;
}

/** The error as the shim prints it. @param version of the request */
export function errorBody(error: unknown, version: string): ErrorBody {
  if (error instanceof CniError)
    return { cniVersion: version, code: error.code, msg: short(error.message), details: error.details };
  const [code, details] =
    error instanceof WeftError
      ? [CODES[error.code] ?? CODE.internal, error.next]
      : [CODE.internal, undefined];
  return { cniVersion: version, code, msg: short(messageOf(error)), details: details ?? '' };
}

/** A message repeats what was given, which may be anything, and runtimes show all of it. */
function short(text: string): string {
  return text.length <= 500 ? text : `${text.slice(0, 499).replace(/\p{Surrogate}$/u, '')}…`;
}
