// The containers of `weft run`: commands in namespaces of their own.
//
// The caller starts a command's process, which waits; the agent records and supervises it. All state that a restart of the
// agent needs is in files, and containers run on without the agent: after a restart it detects what happened meanwhile.
import { Backoff } from '../../core/backoff.js';
import { failedPrecondition, messageOf, nextOf } from '../../core/errors.js';
import type { Launch } from '../../core/launch.js';
import { parseRunNetwork, runTarget } from '../../core/run.js';
import type { Endpoint } from '../../core/records.js';
import type { Logger } from '../../daemon/log.js';
import type { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import { KeyedMutex } from '../../core/keyed-mutex.js';
import { NODE, type ProblemKey, type Problems } from '../health/index.js';
import { ContainerEnds } from './container-ends.js';
import { ContainerFaults } from './container-faults.js';
import type { ContainerNetworks } from './container-networks.js';
import { ContainerStarts, detachAll, previousAddressesOf } from './container-start.js';
import { forgetAttachment, newRecord } from './container-record.js';
import type { ContainerRecord, ContainerState } from './container-state.js';
import { endProcesses, pause } from './container-stop.js';
import { ContainerTable, type Held } from './container-table.js';
import { viewOf, type ContainerView } from './container-view.js';
import { launch, type Launched } from './launcher.js';
import { processAt } from '../kernel/index.js';
import type { RunRequest } from './run-request.js';
import type { Target } from '../targets/index.js';

export interface ContainersOptions {
  state: ContainerState;
  networks: ContainerNetworks;
  problems: Problems;
  log: Logger;
  bootId: string;
  /** How often the processes are polled. */
  everyMs?: number;
  /** Delay before failed work is retried. */
  againMs?: number;
}

/** As Docker: doubled with each short run, reset after a long one. */
const RESTARTS = { firstMs: 100, lastMs: 60_000 } as const;
const STOP_SECONDS = 10;

export class Containers {
  readonly #table = new ContainerTable();
  readonly #locks = new KeyedMutex();
  readonly #starts: ContainerStarts;
  readonly #faults: ContainerFaults;
  readonly #ends: ContainerEnds;
  #stopped = false;

  constructor(private readonly options: ContainersOptions) {
    this.#faults = new ContainerFaults(options);
    this.#starts = new ContainerStarts({ ...options, find: (name) => this.#table.find(name).record });
    this.#ends = new ContainerEnds({
      ...options,
      ...{ table: this.#table, locks: this.#locks, faults: this.#faults },
      forget: (held) => this.#forget(held),
      later: (held, afterMs) => this.#later(held, afterMs),
    });
  }

  /** Restores the recorded containers: supervises those that run, settles those that ended, restarts `--restart always`. */
  restore(): void {
    const { state, problems, bootId } = this.options;
    const { records, torn } = state.load();
    for (const { path, why } of torn) {
      problems.set(
        { scope: NODE, kind: 'state-file', id: path },
        {
          what: `the state file ${path}`,
          why: `it cannot be read: ${why}`,
          fix: 'The record of its container is lost: if it runs, end it by hand, then delete the file.',
        },
      );
    }
    for (const record of records) {
      const held: Held = { record, phase: 'exited', backoff: new Backoff(RESTARTS) };
      this.#table.add(held);
      if (record.bootId !== bootId) this.#rebooted(held);
      else if (record.process !== undefined) held.phase = record.stopped ? 'stopping' : 'running';
      else if (record.restart === 'always' && !record.stopped) this.#later(held, 0);
    }
    state.sweep(records.map(({ id }) => id));
    this.#ends.start();
  }

  #rebooted(held: Held): void {
    const { record } = held;
    const ran = record.process !== undefined;
    delete record.process;
    record.bootId = this.options.bootId;
    if (ran) {
      record.exitCode = null;
      record.finishedAt = new Date().toISOString();
    }
    if (record.remove) {
      this.#forget(held);
      return;
    }
    this.options.state.save(record);
    if (record.restart === 'always' && !record.stopped) this.#later(held, 0);
  }

  /** Stops the supervision; the containers keep running. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#ends.stop();
    const all = this.#table.all();
    for (const { again } of all) clearTimeout(again);
    await Promise.all(all.map(({ record }) => this.#locks.run(record.id, () => Promise.resolve())));
  }

  list(all: boolean): ContainerView[] {
    return this.#table
      .all()
      .filter(({ phase }) => all || phase !== 'exited')
      .map((held) => this.#view(held))
      .sort((a, b) => (a.record.createdAt < b.record.createdAt ? -1 : 1));
  }

  /** @throws WeftError NOT_FOUND */
  get(name: string): ContainerView {
    return this.#view(this.#table.find(name));
  }

  /** Resolves the TARGET `run:NAME` or a bare NAME. @throws WeftError FAILED_PRECONDITION where it does not run */
  target(name: string): Target | undefined {
    const held = this.#table.named(name);
    const starting = this.#starts.pidOf(name);
    const pid = starting ?? held?.record.process?.pid;
    if (pid !== undefined) return { canonical: runTarget(name), path: `/proc/${pid}/ns/net`, name };
    if (held === undefined) return undefined;
    throw failedPrecondition(`container ${name} does not run`, `Start it first: weft start ${name}`);
  }

  /**
   * Makes a waiting process a container: attaches it, and returns what it waits for.
   * @throws WeftError after everything was rolled back
   */
  async run(request: RunRequest): Promise<ContainerView> {
    const name = request.name ?? request.id.slice(0, 12);
    const release = this.#table.reserve(name, request.id);
    const { state } = this.options;
    try {
      const process = await this.#starts.check(request);
      const record = newRecord(request, name, this.options.bootId);
      const held: Held = { record, phase: 'running', backoff: new Backoff(RESTARTS) };
      const word = await this.#starts.begin(record, process);
      this.#table.add(held);
      this.#ends.start();
      this.options.log.info('a container runs', { container: name, network: record.network });
      return { ...this.#view(held), launch: word };
    } catch (error) {
      state.forget(request.id);
      throw error;
    } finally {
      release();
    }
  }

  /** Checks a container now. @returns its state, without a phase if its record was deleted */
  async settle(name: string): Promise<ContainerView> {
    const held = this.#table.find(name);
    await this.#ends.settle(held);
    return { ...this.#view(held), phase: this.#table.has(held.record.id) ? held.phase : undefined };
  }

  /** @throws WeftError where the state directory cannot be written; then the container is unchanged */
  #forget(held: Held): void {
    const { id } = held.record;
    this.options.state.forget(id);
    clearTimeout(held.again);
    held.phase = 'exited';
    this.#table.delete(id);
    this.options.state.clearFolder(id);
    this.#faults.over(held);
    this.options.problems.clearScope({ kind: 'container', id });
  }

  /** Restarts it after a delay. */
  #later(held: Held, afterMs: number): void {
    if (this.#stopped || held.record.stopped) return;
    held.phase = 'restarting';
    clearTimeout(held.again);
    held.again = setTimeout(() => {
      held.again = undefined;
      void this.#locks
        .run(held.record.id, async () => {
          if (held.phase !== 'restarting' || this.#stopped) return;
          held.record.restarts++;
          await this.#start(held);
        })
        .catch((error: unknown) => {
          this.#later(held, held.backoff.next());
          this.#cannotStart(held, error);
        });
    }, afterMs);
  }

  #cannotStart(held: Held, error: unknown): void {
    const { record } = held;
    record.error = messageOf(error);
    this.options.log.warn('a container could not be restarted', {
      container: record.name,
      error: record.error,
    });
    this.options.problems.set(startOf(record), {
      what: `container ${record.name}`,
      why: `it could not be restarted: ${record.error}`,
      fix: nextOf(error) ?? `It is retried repeatedly; weft rm --force ${record.name} ends that.`,
    });
  }

  /** Like a caller's start, but the agent starts the process. */
  async #start(held: Held): Promise<void> {
    const { record } = held;
    const { bootId } = this.options;
    await detachAll(this.options.networks, record.name);
    // Its terminal is closed.
    record.detached = true;
    const launched: Launched = await launch({
      id: record.id,
      network: parseRunNetwork(record.network),
      command: record.command,
      directory: record.directory,
      environment: record.environment,
    });
    try {
      const process = processAt(launched.pid);
      if (process === undefined) throw failedPrecondition(`container ${record.name} ended before it began`);
      const before = { ...record };
      Object.assign(record, { bootId, startedAt: new Date().toISOString() });
      delete record.exitCode;
      delete record.finishedAt;
      delete record.error;
      let word: Launch;
      try {
        word = await this.#starts.begin(record, process);
      } catch (error) {
        Object.assign(record, before);
        throw error;
      }
      held.phase = 'running';
      delete held.unsaved;
      this.#faults.over(held);
      launched.go(word);
      launched.onExit(
        () => void this.#ends.settle(held).catch((error: unknown) => this.#faults.note(held, error)),
      );
      this.options.problems.clear(startOf(record));
      this.options.log.info('a container was restarted', { container: record.name, network: record.network });
    } catch (error) {
      launched.giveUp();
      throw error;
    }
  }

  /** @throws WeftError NOT_FOUND, FAILED_PRECONDITION where it runs */
  async start(name: string): Promise<ContainerView> {
    const held = this.#table.find(name);
    const { record } = held;
    await this.#locks.run(record.id, async () => {
      // It may have been removed meanwhile.
      this.#table.find(record.id);
      if (record.process !== undefined) return;
      const { stopped } = record;
      clearTimeout(held.again);
      held.backoff.reset();
      Object.assign(record, { stopped: false, restarts: record.restarts + 1 });
      try {
        await this.#start(held);
      } catch (error) {
        Object.assign(record, { stopped, restarts: record.restarts - 1 });
        if (held.phase === 'restarting') this.#later(held, held.backoff.delayMs);
        throw error;
      }
    });
    return this.#view(held);
  }

  /** SIGTERM, and after the timeout SIGKILL. @throws WeftError NOT_FOUND, FAILED_PRECONDITION where it cannot be recorded */
  async stopContainer(name: string, seconds = STOP_SECONDS): Promise<ContainerView> {
    const held = this.#table.find(name);
    const { record } = held;
    const { state } = this.options;
    // A start under way completes first; its process is ended here.
    await this.#locks.run(record.id, async () => {
      // Its record was deleted.
      if (!this.#table.has(record.id)) return;
      state.save({ ...record, stopped: true });
      record.stopped = true;
      clearTimeout(held.again);
      held.phase = record.process === undefined ? 'exited' : 'stopping';
    });
    if (record.process === undefined) return this.#view(held);
    await endProcesses(state, record, seconds);
    while (record.process !== undefined && !this.#ends.isReported(held)) await pause();
    await this.#ends.settle(held);
    return this.#view(held);
  }

  /** @throws WeftError NOT_FOUND, FAILED_PRECONDITION where it runs and is not forced to end */
  async remove(name: string, force: boolean): Promise<ContainerView> {
    const held = this.#table.find(name);
    if (held.phase !== 'exited' && force) await this.stopContainer(held.record.id, 0);
    const view = this.#view(held);
    // It may have been started meanwhile, or removed by --rm.
    await this.#locks.run(held.record.id, async () => {
      if (!this.#table.has(held.record.id)) return;
      if (held.phase !== 'exited') {
        throw failedPrecondition(
          `container ${held.record.name} is ${held.phase}`,
          `Stop it first: weft stop ${held.record.name}; or remove it as it is, with --force.`,
        );
      }
      this.#forget(held);
    });
    return { ...view, phase: undefined };
  }

  /** Records an attachment made by hand, so that a restart repeats it. */
  attached(request: AttachRequest, endpoint: Endpoint): void {
    const held = this.#table.byTarget(endpoint.target);
    if (held === undefined || this.#starts.pidOf(held.record.name) !== undefined) return;
    const { record } = held;
    forgetAttachment(record, endpoint.network);
    const { target } = endpoint;
    record.attachments.push({ request: { ...request, target }, ...previousAddressesOf(endpoint) });
    this.options.state.save(record);
  }

  detached(endpoint: Endpoint): void {
    const held = this.#table.byTarget(endpoint.target);
    if (held === undefined) return;
    const { record } = held;
    forgetAttachment(record, endpoint.network);
    this.options.state.save(record);
  }

  #view(held: Held): ContainerView {
    return viewOf(held, this.options.state, this.options.networks);
  }
}

const startOf = ({ id }: ContainerRecord): ProblemKey => ({
  scope: { kind: 'container', id },
  kind: 'start',
});
