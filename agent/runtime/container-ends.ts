// Ends of containers: noticed, cleaned up after and written down.
//
// A command may end without anything that reports it: its caller was killed, or the agent was away. So the processes are
// looked at, and what the run left in its folder says how it ended until that is in the record.
import type { KeyedMutex } from '../../core/keyed-mutex.js';
import type { Logger } from '../../daemon/log.js';
import type { ContainerFaults } from './container-faults.js';
import { trimLog } from './container-log.js';
import type { ContainerNetworks } from './container-networks.js';
import { detachAll } from './container-start.js';
import type { ContainerState } from './container-state.js';
import type { ContainerTable, Held } from './container-table.js';
import { isAlive, killAll } from './processes.js';

export interface ContainerEndsOptions {
  state: ContainerState;
  networks: ContainerNetworks;
  log: Logger;
  table: ContainerTable;
  /** By id: one thing at a time for each container. */
  locks: KeyedMutex;
  faults: ContainerFaults;
  /** Keeps nothing of it. @throws WeftError where the state directory refuses */
  forget: (held: Held) => void;
  /** Starts it again after a time. */
  later: (held: Held, afterMs: number) => void;
  /** When the processes are looked at. */
  everyMs?: number;
}

/** An end that nothing reports is noticed within this time. */
const EVERY_MS = 250;
/** A run that lasted so long was no failed start. */
const LASTED_MS = 10_000;
/** How long the caller of a command in the foreground has to write down how it ended. */
const TOLD_WITHIN_MS = 2_000;

export class ContainerEnds {
  #tick: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(private readonly options: ContainerEndsOptions) {}

  start(): void {
    this.#tick = setInterval(() => this.#look(), this.options.everyMs ?? EVERY_MS);
    this.#look();
  }

  stop(): void {
    this.#stopped = true;
    clearInterval(this.#tick);
  }

  #look(): void {
    for (const held of this.options.table.all()) {
      const { record } = held;
      if (this.options.faults.rests(held)) continue;
      if (held.unsaved === true)
        void this.options.locks.run(record.id, () => Promise.resolve(this.#keep(held)));
      if (record.process === undefined) continue;
      try {
        if (isAlive(record.process)) {
          if (record.detached) trimLog(this.options.state.logOf(record.id));
        } else if (this.isTold(held)) {
          void this.settle(held).catch((error: unknown) => this.options.faults.note(held, error));
        }
      } catch (error) {
        this.options.faults.note(held, error);
      }
    }
  }

  /** Whether nothing more is to be learned of an end that was only noticed: with its exit status, or without for good. */
  isTold(held: Held): boolean {
    const { record } = held;
    const { state } = this.options;
    const cameToLife = state.commandPid(record.id) !== undefined;
    if (record.detached || !cameToLife || state.exitCode(record.id) !== undefined) return true;
    held.goneSince ??= Date.now();
    return Date.now() - held.goneSince >= TOLD_WITHIN_MS;
  }

  /** Where its process has ended: what is left of it goes, and what was wanted for this case is done. */
  settle(held: Held): Promise<void> {
    return this.options.locks.run(held.record.id, () => this.#settleNow(held));
  }

  async #settleNow(held: Held): Promise<void> {
    const { record } = held;
    const { state, log } = this.options;
    if (this.#stopped || record.process === undefined || isAlive(record.process)) return;
    killAll(state.folderOf(record.id));
    const cameToLife = state.commandPid(record.id) !== undefined;
    const exitCode = state.exitCode(record.id) ?? null;
    const lasted = Date.now() - Date.parse(record.startedAt);
    const isKept = !record.remove && (cameToLife || record.restarts > 0);
    // What may be refused comes first: it is tried again then, as if the process had ended just now.
    await detachAll(this.options.networks, record.name);
    if (!isKept) this.options.forget(held);
    this.options.faults.over(held);
    delete record.process;
    delete held.goneSince;
    record.exitCode = exitCode;
    record.finishedAt = new Date().toISOString();
    log.info('a container has ended', { container: record.name, exitCode });
    if (!isKept) return;
    held.phase = 'exited';
    held.unsaved = true;
    this.#keep(held);
    if (record.restart !== 'always' || record.stopped) return;
    if (lasted >= LASTED_MS) held.backoff.reset();
    this.options.later(held, held.backoff.next());
  }

  /** Writes down how its last run ended; until then what the run left behind says so to the next agent. */
  #keep(held: Held): void {
    const { record } = held;
    // It may have been started again, or removed, meanwhile.
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
