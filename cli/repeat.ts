// --watch: a command again and again, until Ctrl-C.
import { setTimeout as delay } from 'node:timers/promises';

import { WeftError } from '../core/errors.js';
import { onInterrupt } from './foreground.js';
import { printNote } from './output.js';

const USUAL_SECONDS = 2;
/** Clears the terminal (ECMA-48: CUP, ED). */
const CLEAR = '\u001B[H\u001B[2J';

/** @param watch seconds between two times; true: the usual ones; undefined: once */
export async function repeated(watch: number | true | undefined, work: () => Promise<void>): Promise<void> {
  if (watch === undefined) return await work();
  const over = new AbortController();
  onInterrupt(() => over.abort());
  for (let isFirst = true; !over.signal.aborted; isFirst = false) {
    if (process.stdout.isTTY) process.stdout.write(CLEAR);
    else if (!isFirst) process.stdout.write('\n');
    try {
      await work();
    } catch (error) {
      // What fails for a while is watched, too.
      if (isFirst || !(error instanceof WeftError)) throw error;
      printNote(error.message);
    }
    const pause = (watch === true ? USUAL_SECONDS : watch) * 1000;
    await delay(pause, undefined, { signal: over.signal }).catch(() => undefined);
  }
}
