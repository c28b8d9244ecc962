// What runs a command: its context, words and options, and the result to print.
import type { Context } from './context.js';
import type { Result } from './output.js';

/**
 * A command's work: the first two words behind it, its options, and all its words, a list where they may be many. Without a
 * result nothing is printed.
 */
type Work<O> = (
  context: Context,
  words: readonly [string, string],
  options: O,
  all: readonly unknown[],
) => Promise<Result | undefined>;
export type Action = <O extends object>(work: Work<O>) => (...args: unknown[]) => Promise<void>;
