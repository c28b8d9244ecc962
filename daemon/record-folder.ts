// A folder of small JSON files, one for each record, replaced atomically: a torn or unreadable one costs only itself. Such a
// file is kept aside and told, never taken for "nothing there".
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { failedPrecondition, messageOf } from '../core/errors.js';

export interface TornRecord {
  /** Where it was put aside. */
  path: string;
  /** The name of its file, without .json. */
  id: string;
  why: string;
}

export class RecordFolder<T extends { id: string }> {
  readonly #records = new Map<string, T>();

  constructor(
    private readonly folder: string,
    private readonly parse: (value: unknown) => T,
  ) {}

  /** Reads what is there. @throws WeftError FAILED_PRECONDITION where the folder cannot be used */
  load(): TornRecord[] {
    const torn: TornRecord[] = [];
    try {
      mkdirSync(this.folder, { recursive: true, mode: 0o700 });
      for (const name of readdirSync(this.folder)) {
        const path = join(this.folder, name);
        if (name.endsWith('.new')) rmSync(path, { force: true });
        if (!name.endsWith('.json')) continue;
        try {
          const record = this.parse(JSON.parse(readFileSync(path, 'utf8')));
          this.#records.set(record.id, record);
        } catch (error) {
          renameSync(path, `${path}.torn`);
          torn.push({ path: `${path}.torn`, id: name.slice(0, -'.json'.length), why: messageOf(error) });
        }
      }
    } catch (error) {
      throw this.#unusable(error);
    }
    return torn;
  }

  get(id: string): T | undefined {
    return this.#records.get(id);
  }

  list(): T[] {
    return [...this.#records.values()];
  }

  /** Written before it counts. @throws WeftError FAILED_PRECONDITION */
  put(record: T): void {
    const path = this.#path(record.id);
    try {
      writeFileSync(`${path}.new`, `${JSON.stringify(record)}\n`, { mode: 0o600 });
      renameSync(`${path}.new`, path);
    } catch (error) {
      throw this.#unusable(error);
    }
    this.#records.set(record.id, record);
  }

  delete(id: string): void {
    this.#records.delete(id);
    rmSync(this.#path(id), { force: true });
  }

  #path(id: string): string {
    return join(this.folder, `${id}.json`);
  }

  #unusable(error: unknown): Error {
    return failedPrecondition(
      `the state folder ${this.folder} cannot be used: ${messageOf(error)}`,
      'Make it writable and give it space, or name another one with --state-dir.',
      { cause: error },
    );
  }
}
