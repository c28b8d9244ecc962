// The single executable, as its launcher offers it to what runs inside (bundle/package/launcher.ts).
import { failedPrecondition, messageOf } from '../core/errors.js';

export interface Executable {
  /** Text of a file that goes with weft, by its path in a checkout. */
  file(path: string): string;
  /** Loads what is native, from beside the executable or from below this folder. @throws Error with `next` */
  loadNativeParts(stateDir: string): void;
}

/** By which the launcher offers it. */
export const EXECUTABLE = Symbol.for('weft.executable');

/** Undefined where Node.js runs weft from a checkout or an npm package. */
export const executable = Reflect.get(globalThis, EXECUTABLE) as Executable | undefined;

/** To be called before the kernel is asked for anything. @throws WeftError FAILED_PRECONDITION with what to do */
export function loadNativeParts(stateDir: string): void {
  try {
    executable?.loadNativeParts(stateDir);
  } catch (error) {
    const next = error instanceof Error ? Reflect.get(error, 'next') : undefined;
    throw failedPrecondition(messageOf(error), typeof next === 'string' ? next : 'See the message above.', {
      cause: error,
    });
  }
}
