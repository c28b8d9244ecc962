// WeftError, the one error class that crosses weft's interfaces.
//
// It carries what a person needs (cause, object, next step) and what a program needs (a code with gRPC's names); each interface
// maps it to its own format once.
import { visible } from './text.js';

/** gRPC's canonical names, the only codes that weft's interfaces use (https://grpc.io/docs/guides/status-codes/). */
export const ERROR_CODES = [
  'INVALID_ARGUMENT',
  'NOT_FOUND',
  'ALREADY_EXISTS',
  'FAILED_PRECONDITION',
  'RESOURCE_EXHAUSTED',
  'UNAVAILABLE',
  'DEADLINE_EXCEEDED',
  'PERMISSION_DENIED',
  'UNAUTHENTICATED',
  'ABORTED',
  'UNIMPLEMENTED',
  'INTERNAL',
] as const;
export type ErrorCode = (typeof ERROR_CODES)[number];

/** A code by its name, as messages carry it; INTERNAL for one that weft does not use. */
export function parseErrorCode(name: string): ErrorCode {
  return isErrorCode(name) ? name : 'INTERNAL';
}

const isErrorCode = (name: string): name is ErrorCode => (ERROR_CODES as readonly string[]).includes(name);

export class WeftError extends Error {
  override readonly name = 'WeftError';
  /** The next step for the reader; displayed on a line of its own. */
  readonly next?: string;

  /**
   * @param message the cause and the object that it concerns, one sentence
   * @param next the next step for the reader, one sentence, displayed on a line of its own
   */
  constructor(
    readonly code: ErrorCode,
    message: string,
    next?: string,
    options?: ErrorOptions,
  ) {
    super(oneLine(message), options);
    if (next !== undefined) this.next = oneLine(next);
  }
}

/**
 * Messages repeat user input, which must not break the line, send escape sequences to the terminal, or contain lone surrogates,
 * which UTF-8 cannot encode.
 */
function oneLine(text: string): string {
  return visible(text.replaceAll(/[ \t]*[\r\n]+[ \t]*/g, ' ')).replaceAll(/\p{Surrogate}/gu, '\ufffd');
}

const raise =
  (code: ErrorCode) =>
  (message: string, next?: string, options?: ErrorOptions): WeftError =>
    new WeftError(code, message, next, options);

export const invalidArgument = raise('INVALID_ARGUMENT');
export const notFound = raise('NOT_FOUND');
export const alreadyExists = raise('ALREADY_EXISTS');
export const failedPrecondition = raise('FAILED_PRECONDITION');
export const resourceExhausted = raise('RESOURCE_EXHAUSTED');
export const unavailable = raise('UNAVAILABLE');
export const unimplemented = raise('UNIMPLEMENTED');
export const aborted = raise('ABORTED');
export const deadlineExceeded = raise('DEADLINE_EXCEEDED');
export const permissionDenied = raise('PERMISSION_DENIED');
export const unauthenticated = raise('UNAUTHENTICATED');

/** The text of any thrown value. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The next step that an error names; undefined where it names none. */
export function nextOf(error: unknown): string | undefined {
  return error instanceof WeftError ? error.next : undefined;
}
