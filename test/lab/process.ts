// A process started and watched by a lab.
//
// Its output goes to a file, and its end is awaited.
import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync, writeSync } from 'node:fs';
import { constants } from 'node:os';

import { environment, shown } from './exec.js';

export class LabProcess {
  readonly #child: ChildProcess;
  /** Settles with the exit status, 128 + n where a signal ended it. */
  readonly ended: Promise<number>;
  exitCode: number | undefined;

  constructor(
    readonly name: string,
    argv: readonly string[],
    readonly logFile: string,
    env: Record<string, string> = {},
  ) {
    const log = openSync(logFile, 'a');
    writeSync(log, `$ ${shown(argv)}\n`);
    const [program = '', ...args] = argv;
    this.#child = spawn(program, args, {
      env: environment(env),
      stdio: ['ignore', log, log],
      // Outside of the terminal's process group: ^C reaches the lab, which ends its processes in order.
      detached: true,
    });
    closeSync(log);
    this.ended = new Promise((resolve) => {
      const end = (code: number): void => {
        this.exitCode = code;
        resolve(code);
      };
      this.#child.once('error', () => end(127));
      this.#child.once('exit', (code, signal) =>
        end(code ?? 128 + (signal === null ? 0 : constants.signals[signal])),
      );
    });
  }

  /** @throws Error where it could not be started */
  get pid(): number {
    const { pid } = this.#child;
    if (pid === undefined) throw new Error(`${this.name} could not be started; see ${this.logFile}`);
    return pid;
  }

  get isRunning(): boolean {
    return this.exitCode === undefined;
  }

  signal(signal: NodeJS.Signals): void {
    if (this.isRunning) this.#child.kill(signal);
  }

  /** Sends SIGTERM, and SIGKILL after the time; returns the exit status and how long it took. */
  async stop(withinMs = 8000): Promise<{ code: number; ms: number }> {
    const began = performance.now();
    this.signal('SIGTERM');
    const timer = setTimeout(() => this.signal('SIGKILL'), withinMs);
    const code = await this.ended;
    clearTimeout(timer);
    return { code, ms: performance.now() - began };
  }

  async kill(): Promise<void> {
    this.signal('SIGKILL');
    await this.ended;
  }

  /** Lets the parent end without it. */
  unref(): void {
    this.#child.unref();
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  tail(lines = 25): string {
    return this.log().trimEnd().split('\n').slice(-lines).join('\n');
  }
}
