// Ends of containers: detected, cleaned up after and recorded.
//
// A command may end without a report: its caller was killed, or the agent was down. So the processes are polled, and the
// run's folder holds the exit status until the record does.
import type { KeyedMutex } from '../../core/keyed-mutex.js';
import type { Logger } from '../../daemon/log.js';
import type { ContainerFaults } from './container-faults.js';
import { trimLog } from './container-log.js';
import type { ContainerNetworks } from './container-networks.js';
import { detachAll } from './container-start.js';
import type { ContainerState } from './container-state.js';
import type { ContainerTable, Held } from './container-table.js';
import { isAlive } from '../kernel/index.js';
import { killAll } from './processes.js';

export interface ContainerEndsOptions {
  state: ContainerState;
  networks: ContainerNetworks;
  log: Logger;
  table: ContainerTable;
  /** Serializes the work on each container, by id. */
  locks: KeyedMutex;
  faults: ContainerFaults;
  /** Deletes its record. @throws WeftError where the state directory cannot be written */
  forget: (held: Held) => void;
  /** Restarts it after a delay. */
  later: (held: Held, afterMs: number) => void;
  /** How often the processes are polled. */
  everyMs?: number;
}

/** An unreported end is detected within this time. */
const EVERY_MS = 250;
/** A run of this length was no failed start. */
const LASTED_MS = 10_000;
/** How long the caller of a command in the foreground has to record its exit status. */
const REPORTED_WITHIN_MS = 2_000;

export class ContainerEnds {
  #tick: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly options: ContainerEndsOptions) {}

  /** Polls for as long as there are containers. */
  start(): void {
    if (this.#stopped) return;
    this.#tick ??= setInterval(() => this.#look(), this.options.everyMs ?? EVERY_MS);
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    this.#rest();
  }

  #rest(): void {
    clearInterval(this.#tick);
    this.#tick = undefined;
  }

  #look(): void {
    const all = this.options.table.all();
    if (all.length === 0) this.#rest();
    for (const held of all) {
      const { record } = held;
      if (this.options.faults.rests(held)) continue;
      if (held.unsaved === true)
        void this.options.locks.run(record.id, () => Promise.resolve(this.#keep(held)));
      if (record.process === undefined) continue;
      try {
        if (isAlive(record.process)) {
          if (record.detached) trimLog(this.options.state.logOf(record.id));
        } else if (this.isReported(held)) {
          void this.settle(held).catch((error: unknown) => this.options.faults.note(held, error));
        }
      } catch (error) {
        this.options.faults.note(held, error);
      }
    }
  }

  /** Whether a detected end is final: its exit status is known, or will not come. */
  isReported(held: Held): boolean {
    const { record } = held;
    const { state } = this.options;
    const wasStarted = state.commandPid(record.id) !== undefined;
    if (record.detached || !wasStarted || state.exitCode(record.id) !== undefined) return true;
    held.goneSince ??= Date.now();
    return Date.now() - held.goneSince >= REPORTED_WITHIN_MS;
  }

  /** Once its process has ended: deletes what is left of the run, then restarts or removes the container as requested. */
  settle(held: Held): Promise<void> {
    return this.options.locks.run(held.record.id, () => this.#settleNow(held));
  }

  async #settleNow(held: Held): Promise<void> {
    const { record } = held;
    const { state, log } = this.options;
    if (this.#stopped || record.process === undefined || isAlive(record.process)) return;
    killAll(state.folderOf(record.id));
    const wasStarted = state.commandPid(record.id) !== undefined;
    const exitCode = state.exitCode(record.id) ?? null;
    const lasted = Date.now() - Date.parse(record.startedAt);
    const isKept = !record.remove && (wasStarted || record.restarts > 0);
    // What can fail comes first: it is then retried as if the process had ended just now.
    await detachAll(this.options.networks, record.name);
    if (!isKept) this.options.forget(held);
    this.options.faults.over(held);
    delete record.process;
    delete held.goneSince;
    record.exitCode = exitCode;
    record.finishedAt = new Date().toISOString();
    log.info('a container ended', { container: record.name, exitCode });
    if (!isKept) return;
    held.phase = 'exited';
    held.unsaved = true;
    this.#keep(held);
    if (record.restart !== 'always' || record.stopped) return;
    if (lasted >= LASTED_MS) held.backoff.reset();
    this.options.later(held, held.backoff.next());
  }

  /** Records the exit status of its last run; until then the run's folder holds it for the next agent. */
  #keep(held: Held): void {
    const { record } = held;
    // It may have been restarted or removed meanwhile.
    if (held.unsaved !== true || record.process !== undefined || !this.options.table.has(record.id)) return;
    const { state } = this.options;
    try {
      state.save(record);
      state.clearFolder(record.id);
      delete held.unsaved;
      this.options.faults.over(held);
    } catch (error) {
      this.options.faults.note(held, error);
    }
  }
}
