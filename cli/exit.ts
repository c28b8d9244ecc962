// Exit statuses of commands that pass on another program's.
import { WeftError, type ErrorCode } from '../core/errors.js';

/** As shells have it (POSIX, 2.8.2): the command was not found, or could not be executed. */
export const NOT_FOUND = 127;
export const NOT_EXECUTABLE = 126;

/** An error with an exit status of its own. */
export class ExitError extends WeftError {
  constructor(
    code: ErrorCode,
    readonly exitCode: number,
    message: string,
    next?: string,
  ) {
    super(code, message, next);
  }
}
