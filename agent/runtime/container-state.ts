// State files of containers: one atomically replaced record each, and logs.
//
// A torn file costs only its own record. What lives as long as a run is in the run directory.
//
//   STATE/containers/ID.json     the record           RUN/containers/ID/    files that the container mounts, pid, exit
//   STATE/containers/ID.log      its output
import { existsSync, linkSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';

import * as z from 'zod';

import { failedPrecondition, messageOf } from '../../core/errors.js';
import { LAUNCH_EXIT, LAUNCH_PID } from '../../core/launch.js';
import { type FileOptions, RecordFolder, type TornRecord } from '../../daemon/record-folder.js';
import { deleteFile, stateError } from '../../daemon/state-file.js';
import type { AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import { processesWith } from './processes.js';

const attachRequest = z.object({
  network: z.string(),
  target: z.string(),
  name: z.string().optional(),
  aliases: z.array(z.string()),
  ip: z.string().optional(),
  ip6: z.string().optional(),
  mac: z.string().optional(),
  ifname: z.string().optional(),
  noDefaultRoute: z.boolean(),
  publish: z.array(z.string()),
  publishEverywhere: z.boolean().default(false),
  vlan: z.int().optional(),
  dns: z.boolean(),
  allowedAddresses: z.array(z.string()).default([]),
  labels: z.record(z.string(), z.string()).default({}),
}) satisfies z.ZodType<AttachRequest>;

const recordSchema = z.object({
  id: z.string().regex(/^[0-9a-f]{16}$/),
  name: z.string(),
  /** As requested: a network, none, host, container:NAME. */
  network: z.string(),
  /** Its attachments, which a restart makes again; the one that it was started with comes first. */
  attachments: z.array(
    z.object({
      request: attachRequest,
      /** The endpoint of the last run, which a restart restores. */
      endpoint: z.string().optional(),
      ip: z.string().optional(),
      ip6: z.string().optional(),
    }),
  ),
  command: z.array(z.string()).min(1),
  directory: z.string(),
  environment: z.array(z.string()),
  detached: z.boolean(),
  remove: z.boolean(),
  restart: z.enum(['no', 'always']),
  /** A stop was requested. */
  stopped: z.boolean(),
  bootId: z.string(),
  /** The started process: the command, or the shell that waits for it. Absent while nothing runs. */
  process: z.object({ pid: z.int().min(2), start: z.string() }).optional(),
  /** Exit status of the last run; null where it is unknown. */
  exitCode: z.int().nullable().optional(),
  /** Runs after the first. */
  restarts: z.int().min(0),
  createdAt: z.string(),
  startedAt: z.string(),
  finishedAt: z.string().optional(),
  /** Why it could not be restarted. */
  error: z.string().optional(),
});

export type ContainerRecord = z.infer<typeof recordSchema>;

export class ContainerState {
  readonly #state: string;
  readonly #run: string;
  readonly #records: RecordFolder<ContainerRecord>;

  constructor(stateDir: string, runDir: string, options: FileOptions = {}) {
    this.#state = join(stateDir, 'containers');
    this.#run = join(runDir, 'containers');
    this.#records = new RecordFolder({
      folder: this.#state,
      parse: (value) => recordSchema.parse(value),
      nameOf: ({ id }) => id,
      // These are restarted after a power cut; the others have ended with it.
      durable: ({ restart }) => restart === 'always',
      ...options,
    });
  }

  /** @throws WeftError FAILED_PRECONDITION where the folder cannot be used */
  load(): { records: ContainerRecord[]; torn: TornRecord[] } {
    this.#records.create();
    return this.#records.load();
  }

  /** @throws WeftError FAILED_PRECONDITION */
  save(record: ContainerRecord): void {
    this.#records.put(record);
  }

  /**
   * Deletes the record and its log; `clearFolder` deletes what lives as long as a run.
   * @throws WeftError FAILED_PRECONDITION
   */
  forget(id: string): void {
    this.#records.delete(id);
    for (const path of [this.logOf(id), `${this.logOf(id)}.1`]) {
      try {
        deleteFile(path);
      } catch (error) {
        throw stateError(`the log ${path} cannot be deleted`, error);
      }
    }
  }

  logOf(id: string): string {
    return join(this.#state, `${id}.log`);
  }

  folderOf(id: string): string {
    return join(this.#run, id);
  }

  /** Folders of runs, including those without a record. */
  folders(): string[] {
    return existsSync(this.#run) ? readdirSync(this.#run).map((name) => join(this.#run, name)) : [];
  }

  /** Deletes folders of starts that were never recorded, because the agent was killed; folders in use by a process stay. */
  sweep(known: readonly string[]): void {
    for (const folder of this.folders()) {
      if (known.includes(basename(folder)) || processesWith(folder).length > 0) continue;
      rmSync(folder, { recursive: true, force: true });
    }
  }

  /** @throws WeftError FAILED_PRECONDITION */
  makeFolder(id: string): string {
    const folder = this.folderOf(id);
    try {
      rmSync(folder, { recursive: true, force: true });
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      return folder;
    } catch (error) {
      throw failedPrecondition(
        `the folder ${folder} of a container's run cannot be made: ${messageOf(error)}`,
        'Make it writable and give it space, or name another run directory with --run-dir.',
        { cause: error },
      );
    }
  }

  clearFolder(id: string): void {
    rmSync(this.folderOf(id), { recursive: true, force: true });
  }

  /**
   * Writes the files that are mounted over the host's. Written in place: they may be mounted already.
   * @param files by name; absent ones are the host's
   */
  writeFiles(id: string, files: ReadonlyMap<string, string>): void {
    const folder = this.folderOf(id);
    for (const [name, text] of files) writeFileSync(join(folder, name), text, { mode: 0o644 });
    // The mount point of its sysfs.
    mkdirSync(join(folder, 'sys'), { recursive: true });
  }

  /** Links to another container's files, so that changes apply to both. */
  shareFiles(id: string, from: string): void {
    for (const name of ['hosts', 'hostname', 'resolv.conf']) {
      const path = join(this.folderOf(from), name);
      if (existsSync(path)) linkSync(path, join(this.folderOf(id), name));
    }
    if (existsSync(join(this.folderOf(from), 'sys'))) mkdirSync(join(this.folderOf(id), 'sys'));
  }

  /** The command's own process; undefined where it was never started. */
  commandPid(id: string): number | undefined {
    return this.#number(id, LAUNCH_PID);
  }

  exitCode(id: string): number | undefined {
    return this.#number(id, LAUNCH_EXIT);
  }

  #number(id: string, file: string): number | undefined {
    try {
      const text = readFileSync(join(this.folderOf(id), file), 'utf8').trim();
      return /^\d{1,10}$/.test(text) ? Number(text) : undefined;
    } catch {
      return undefined;
    }
  }
}
