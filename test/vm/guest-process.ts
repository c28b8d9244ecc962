// A long-running process in a virtual machine, seen from outside.
//
// Its output goes to a shared file, and its end is awaited.
import { readFileSync } from 'node:fs';

import { slowness } from '../lab/wait.js';

export class GuestProcess {
  exitCode: number | undefined;

  constructor(
    readonly name: string,
    readonly pid: number,
    readonly logFile: string,
    /** Settles with the exit status, 128 + n where a signal ended it. */
    readonly ended: Promise<number>,
    readonly signal: (signal: NodeJS.Signals) => Promise<void>,
  ) {
    void ended.then((code) => (this.exitCode = code));
  }

  /** Sends SIGTERM, and SIGKILL after the time; returns the exit status. */
  async stop(withinMs = 8000): Promise<number> {
    const timer = setTimeout(() => void this.signal('SIGKILL'), withinMs * slowness);
    await this.signal('SIGTERM');
    const code = await this.ended;
    clearTimeout(timer);
    return code;
  }

  async kill(): Promise<void> {
    await this.signal('SIGKILL');
    await this.ended;
  }

  log(): string {
    return readFileSync(this.logFile, 'utf8');
  }

  tail(lines = 25): string {
    return this.log().trimEnd().split('\n').slice(-lines).join('\n');
  }
}
