// A command in the foreground: it has the caller's terminal and signals, and its exit status is passed on.
//
// With a terminal the command is in this process' own group, so that Ctrl-C, Ctrl-Z and job control reach it as they reach
// any program; those signals are not sent twice. Without a terminal it has a session of its own, and every signal is passed on.
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { constants } from 'node:os';

const FORWARDED = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'] as const;
/** Signals that a terminal sends to its whole foreground process group. */
const OF_TERMINAL = ['SIGINT', 'SIGQUIT'] as const;

export const exitCodeOf = (signal: NodeJS.Signals): number => 128 + constants.signals[signal];

/** Whether this process has a terminal, wherever its input and output lead. */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync('/dev/tty', 'r'));
    return true;
  } catch {
    return false;
  }
}

let interrupted = (): void => process.exit(exitCodeOf('SIGINT'));

/**
 * Ctrl-C ends this program until `Signals` takes over. One listener serves both: a pending signal would be lost with a
 * listener that is removed.
 */
export function listenForInterrupts(): void {
  process.on('SIGINT', () => interrupted());
}

/** Ctrl-C calls this, once; the next one ends the program. */
export function onInterrupt(work: () => void): void {
  const before = interrupted;
  interrupted = () => {
    interrupted = before;
    work();
  };
}

export class Signals {
  #child: ChildProcess | undefined;
  /** The first signal that arrived before the command was started. */
  received: NodeJS.Signals | undefined;
  readonly #interrupted = new AbortController();

  constructor(private readonly terminal: boolean) {
    // From now on Ctrl-C goes to the command.
    interrupted = () => this.#handle('SIGINT');
    for (const signal of [...FORWARDED, 'SIGQUIT'] as const) process.on(signal, () => this.#handle(signal));
  }

  /** Aborted by a signal that arrives before `handOver`. */
  get interrupted(): AbortSignal {
    return this.#interrupted.signal;
  }

  /** The command runs: it gets the signals. */
  handOver(child: ChildProcess): void {
    this.#child = child;
  }

  #handle(signal: NodeJS.Signals): void {
    if (this.#child !== undefined) {
      if (this.terminal && OF_TERMINAL.some((one) => one === signal)) return;
      this.#child.kill(signal);
      return;
    }
    // A second one ends it at once. The agent notices that the waiting process is gone, and rolls back.
    if (this.received !== undefined) process.exit(exitCodeOf(signal));
    this.received = signal;
    this.#interrupted.abort();
  }
}

/** Settles with the exit status, 128 + n where a signal ended it. */
export function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    const end = (code: number | null, signal: NodeJS.Signals | null): void =>
      resolve(code ?? (signal === null ? 1 : exitCodeOf(signal)));
    if (child.exitCode !== null || child.signalCode !== null) end(child.exitCode, child.signalCode);
    else child.once('exit', end);
  });
}
