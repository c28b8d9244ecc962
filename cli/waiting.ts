// A command that waits says for whom: at a terminal as long as it waits, elsewhere in a line that stays.
import { visible } from '../core/text.js';

/** How long people wait without a word, in milliseconds: with the start of the program, less than 3 s. */
const SILENT_MS = 2500;

/** A call that follows a long one may be quick, in milliseconds. */
const QUICK_MS = 300;

/** How long calls in a row have had no answer, in milliseconds: several short waits are a long one. */
let unanswered = 0;

/** @param work calls `begun` where the answer begins long before its end */
export async function notSilently<T>(peer: string, work: (begun: () => void) => Promise<T>): Promise<T> {
  let silentSince = performance.now() - unanswered;
  const timer = setTimeout(
    () => {
      tell(peer);
      silentSince = performance.now();
    },
    Math.max(SILENT_MS - unanswered, QUICK_MS),
  );
  const over = (): void => {
    clearTimeout(timer);
    wipe();
  };
  try {
    const answer = await work(over);
    unanswered = 0;
    return answer;
  } catch (error) {
    unanswered = performance.now() - silentSince;
    throw error;
  } finally {
    over();
  }
}

/** Of lines that stay, one is enough, however many calls wait. */
const said = new Set<string>();
let isShown = false;

function tell(peer: string): void {
  const text = `weft: waiting for ${visible(peer)}`;
  if (process.stderr.isTTY && process.env['TERM'] !== 'dumb') {
    wipe();
    isShown = true;
    process.stderr.write(text);
  } else if (!said.has(peer)) {
    said.add(peer);
    process.stderr.write(`${text}\n`);
  }
}

/** Takes the line away, before anything else is written (ECMA-48: EL). */
export function wipe(): void {
  if (isShown) process.stderr.write('\r\u001B[K');
  isShown = false;
}
// Ctrl-C leaves an empty line, too.
process.on('exit', wipe);
