// The pumps of this node as processes: started, recognised by a later run of the agent, and ended.
//
// A file for each says what runs: it is written here, in the step that starts the process, so that there is no time in which a
// pump runs and nothing tells of it.
import { spawn } from 'node:child_process';
import { mkdirSync, openSync, closeSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import type { PumpObject } from '../../../core/objects/index.js';
import { messageOf } from '../../../core/errors.js';
import { processAt } from '../process-id.js';
import { readCounters, type PumpCounters } from './counters.js';

interface Running {
  pid: number;
  /** Clock ticks from the boot to its start (proc_pid_stat(5)): a later process may have the pid. */
  startedAt: string;
  /** The same in milliseconds since the epoch. */
  at: number;
  /** Of the link that it has. */
  index: number;
  local: string;
  port: number;
  version: string;
}

export interface Pumps {
  /** Every pump that runs. */
  list(): { object: PumpObject; index: number }[];
  /** In place of the one that the link has. @returns why the one before it ended as soon as it had begun; undefined: it did not */
  start(pump: PumpObject, index: number): string | undefined;
  stop(link: string): void;
  isRunning(link: string): boolean;
  /** By link. */
  counters(): Map<string, PumpCounters>;
}

/** Of a container's namespace: there are none. */
export const NO_PUMPS: Pumps = {
  list: () => [],
  start: () => undefined,
  stop: () => undefined,
  isRunning: () => false,
  counters: () => new Map(),
};

/** One that ends within so many milliseconds of its start will do so again. */
const SOON_MS = 15_000;

/** Where it has ended already, nothing happens. */
export function endPump(pid: number): void {
  try {
    process.kill(pid, 'SIGTERM');
  } catch {
    // It has ended.
  }
}

export class PumpProcesses implements Pumps {
  /**
   * @param folder of their files
   * @param command that a pump runs: the words before its arguments
   * @param version of this weft; a pump of another one is replaced
   */
  constructor(
    private readonly folder: string,
    private readonly command: readonly string[],
    private readonly version: string,
  ) {}

  list(): { object: PumpObject; index: number }[] {
    return this.#links().flatMap((link) => {
      const found = this.#running(link);
      if (found === undefined) return [];
      const { local, port, index, version } = found;
      const outdated = version === this.version ? {} : { outdated: true as const };
      return [{ object: { kind: 'pump', link, local, port, ...outdated }, index }];
    });
  }

  start({ link, local, port }: PumpObject, index: number): string | undefined {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    const before = this.#running(link);
    const gone = before === undefined ? this.#record(link) : undefined;
    const ended = gone !== undefined && Date.now() - gone.at < SOON_MS ? this.#lastWords(link) : undefined;
    const log = openSync(this.#path(link, 'log'), 'w', 0o600);
    const [program = '', ...words] = this.command;
    const args = [link, local, String(port), this.#path(link, 'counters')];
    const child = spawn(
      program,
      [...words, ...args, ...(before === undefined ? [] : [String(before.pid)])],
      // Of its own session: what ends the agent's does not end it. The environment has secrets of the agent's.
      { cwd: '/', env: {}, stdio: ['ignore', 'ignore', log], detached: true },
    );
    closeSync(log);
    child.on('error', (error) => writeFileSync(this.#path(link, 'log'), messageOf(error)));
    child.unref();
    const { pid } = child;
    if (pid === undefined) return 'it could not be started';
    const running: Running = {
      pid,
      startedAt: processAt(pid)?.start ?? '',
      at: Date.now(),
      index,
      local,
      port,
      version: this.version,
    };
    writeFileSync(this.#path(link, 'json'), JSON.stringify(running), { mode: 0o600 });
    return ended;
  }

  stop(link: string): void {
    const running = this.#running(link);
    if (running !== undefined) endPump(running.pid);
    for (const kind of ['json', 'log', 'counters']) rmSync(this.#path(link, kind), { force: true });
  }

  isRunning(link: string): boolean {
    return this.#running(link) !== undefined;
  }

  counters(): Map<string, PumpCounters> {
    return new Map(this.#links().map((link) => [link, readCounters(this.#path(link, 'counters'))]));
  }

  #links(): string[] {
    try {
      return readdirSync(this.folder).flatMap((name) => (name.endsWith('.json') ? [name.slice(0, -5)] : []));
    } catch {
      return [];
    }
  }

  #running(link: string): Running | undefined {
    const record = this.#record(link);
    return record !== undefined && processAt(record.pid)?.start === record.startedAt ? record : undefined;
  }

  #record(link: string): Running | undefined {
    try {
      return JSON.parse(readFileSync(this.#path(link, 'json'), 'utf8')) as Running;
    } catch {
      return undefined;
    }
  }

  #lastWords(link: string): string {
    try {
      return readFileSync(this.#path(link, 'log'), 'utf8').trim().split('\n').at(-1) || 'it was killed';
    } catch {
      return 'it was killed';
    }
  }

  #path(link: string, kind: string): string {
    return join(this.folder, `${link}.${kind}`);
  }
}
