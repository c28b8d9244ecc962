// What runs a command: its context, words and options, and the result to print.
import type { Context } from './context.js';
import type { Result } from './output.js';

/** Receives the first two arguments, the options, and all arguments (lists where they repeat). Without a result nothing is printed. */
type Work<O> = (
  context: Context,
  words: readonly [string, string],
  options: O,
  all: readonly unknown[],
) => Promise<Result | undefined>;
export type Action = <O extends object>(work: Work<O>) => (...args: unknown[]) => Promise<void>;
