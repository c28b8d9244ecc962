// The pumps of this node as processes: started, recognised by a later run of the agent, and ended.
//
// A record of each says what runs. Where it is missing (an agent was killed while it started one), the process is found by its
// command line before another is started: two cannot have one device.
import { spawn } from 'node:child_process';
import {
  mkdirSync,
  openSync,
  closeSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import type { PumpObject } from '../../../core/objects/index.js';
import { messageOf } from '../../../core/errors.js';
import { processAt } from '../process-id.js';
import { readCounters, type PumpCounters } from './counters.js';

export interface PumpRecord {
  link: string;
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

/** Where the records are. */
export interface PumpRecords {
  list(): PumpRecord[];
  get(link: string): PumpRecord | undefined;
  put(record: PumpRecord): void;
  delete(link: string): void;
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

/** Of a process that had ended when its start was looked up: no process has it. */
const NEVER = '0';

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
   * @param folder of their logs and counters
   * @param command that a pump runs: the words before its arguments
   * @param version of this weft; a pump of another one is replaced
   */
  constructor(
    private readonly records: PumpRecords,
    private readonly folder: string,
    private readonly command: readonly string[],
    private readonly version: string,
  ) {}

  list(): { object: PumpObject; index: number }[] {
    return this.records.list().flatMap((record) => {
      if (!isRunning(record)) return [];
      const { link, local, port, index, version } = record;
      const outdated = version === this.version ? {} : { outdated: true as const };
      return [{ object: { kind: 'pump', link, local, port, ...outdated }, index }];
    });
  }

  start({ link, local, port }: PumpObject, index: number): string | undefined {
    mkdirSync(this.folder, { recursive: true, mode: 0o700 });
    const known = this.records.get(link);
    const before = this.#processOf(link);
    const endedSoon = known !== undefined && !isRunning(known) && Date.now() - known.at < SOON_MS;
    const ended = endedSoon ? this.#lastWords(link) : undefined;
    const log = openSync(this.#path(link, 'log'), 'w', 0o600);
    const [program = '', ...words] = this.command;
    const args = [link, local, String(port), this.#path(link, 'counters')];
    const child = spawn(
      program,
      [...words, ...args, ...(before === undefined ? [] : [String(before)])],
      // Of its own session: what ends the agent's does not end it. The environment has secrets of the agent's.
      { cwd: '/', env: {}, stdio: ['ignore', 'ignore', log], detached: true },
    );
    closeSync(log);
    child.on('error', (error) => writeFileSync(this.#path(link, 'log'), messageOf(error)));
    child.unref();
    const { pid } = child;
    if (pid === undefined) return 'it could not be started';
    const startedAt = processAt(pid)?.start ?? NEVER;
    this.records.put({ link, pid, startedAt, at: Date.now(), index, local, port, version: this.version });
    return ended;
  }

  stop(link: string): void {
    const pid = this.#processOf(link);
    if (pid !== undefined) endPump(pid);
    this.records.delete(link);
    for (const kind of ['log', 'counters']) rmSync(this.#path(link, kind), { force: true });
  }

  isRunning(link: string): boolean {
    return this.#processOf(link) !== undefined;
  }

  counters(): Map<string, PumpCounters> {
    return new Map(this.records.list().map(({ link }) => [link, readCounters(this.#path(link, 'counters'))]));
  }

  #processOf(link: string): number | undefined {
    const known = this.records.get(link);
    return known !== undefined && isRunning(known)
      ? known.pid
      : strayPump(link, this.#path(link, 'counters'));
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

const isRunning = ({ pid, startedAt }: PumpRecord): boolean => processAt(pid)?.start === startedAt;

/** The pump of a link in this process' network namespace, of this user and of any version, by its command line. */
function strayPump(link: string, counters: string): number | undefined {
  const own = readlinkSync('/proc/self/ns/net');
  const found = readdirSync('/proc').find((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
      return (
        words.some((word, i) => word === link && words[i + 3] === counters) &&
        readlinkSync(`/proc/${pid}/ns/net`) === own &&
        statSync(`/proc/${pid}`).uid === process.getuid?.()
      );
    } catch {
      // It has ended.
      return false;
    }
  });
  return found === undefined ? undefined : Number(found);
}
