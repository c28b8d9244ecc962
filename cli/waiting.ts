// A command that waits says for what: at a terminal as long as it waits, elsewhere in a line that stays.
import { visible } from '../core/text.js';

/** How long people wait without a word, in milliseconds. On a busy machine the word comes a second late, and that is 3 s then. */
const SILENT_MS = 2000;

/** A wait that follows a long one may be short, in milliseconds. */
const SHORT_MS = 300;

/** When people last saw something, by performance.now(), which begins with the program: several short waits are a long one. */
let seenAt = 0;
let isQuiet = false;

/** From now on waits are silent: the exit status alone is asked for. */
export function beQuiet(): void {
  isQuiet = true;
}

/**
 * @param what is waited for
 * @param work calls `begun` where what follows is no wait: a stream of answers, which are shown
 */
export async function notSilently<T>(what: string, work: (begun: () => void) => Promise<T>): Promise<T> {
  const left = seenAt + SILENT_MS - performance.now();
  const timer = setTimeout(() => tell(what), Math.max(left, Math.min(SHORT_MS, left + 2 * SHORT_MS)));
  const over = (): void => {
    clearTimeout(timer);
    wipe();
  };
  try {
    return await work(over);
  } finally {
    over();
  }
}

/** Of lines that stay, one is enough, however many calls wait. */
const said = new Set<string>();
let isShown = false;

function tell(what: string): void {
  if (isQuiet) return;
  const text = `weft: waiting for ${visible(what)}`;
  seen();
  if (process.stderr.isTTY && process.env['TERM'] !== 'dumb') {
    isShown = true;
    process.stderr.write(text);
  } else if (!said.has(what)) {
    said.add(what);
    process.stderr.write(`${text}\n`);
  }
}

/** Something else is written now. */
export function seen(): void {
  wipe();
  seenAt = performance.now();
}

/** Takes the line away (ECMA-48: EL). */
function wipe(): void {
  if (!isShown) return;
  isShown = false;
  seenAt = performance.now();
  process.stderr.write('\r\u001B[K');
}
// Ctrl-C leaves an empty line, too.
process.on('exit', wipe);
