// A folder of small JSON files, one for each record, replaced atomically: a torn or unreadable one costs only itself. Such a
// file is kept aside and told, never taken for "nothing there".
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { z } from 'zod';

import { failedPrecondition, messageOf } from '../core/errors.js';

export interface TornRecord {
  /** Where it was put aside. */
  path: string;
  /** The name of its file, without .json. */
  id: string;
  why: string;
}

/**
 * The records of a folder, which is made where it is missing. What was left half written goes; a file that cannot be read,
 * or that holds another record than its name says, is put aside as NAME.json.torn.
 * @param nameOf what a record's file is called, without .json
 * @throws Error where the folder itself cannot be used
 */
export function readRecords<T>(
  folder: string,
  parse: (value: unknown) => T,
  nameOf: (record: T) => string,
): { records: T[]; torn: TornRecord[] } {
  const records: T[] = [];
  const torn: TornRecord[] = [];
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    if (name.endsWith('.new')) rmSync(path, { force: true, recursive: true });
    if (!name.endsWith('.json')) continue;
    const id = name.slice(0, -'.json'.length);
    try {
      const record = parse(JSON.parse(readFileSync(path, 'utf8')));
      // A copy beside the original would be the same thing twice, and deleting the one would leave the other.
      if (nameOf(record) !== id) throw new Error(`it is about ${nameOf(record)}, as its name does not say`);
      records.push(record);
    } catch (error) {
      renameSync(path, `${path}.torn`);
      torn.push({ path: `${path}.torn`, id, why: whyUnreadable(error) });
    }
  }
  return { records, torn };
}

/** In one line: of what a schema finds wrong, the first. */
export function whyUnreadable(error: unknown): string {
  if (!(error instanceof z.ZodError)) return messageOf(error);
  const [issue] = error.issues;
  return `${issue?.path.map(String).join('.') ?? ''}: ${issue?.message ?? 'not what it should be'}`;
}

export class RecordFolder<T extends { id: string }> {
  readonly #records = new Map<string, T>();

  constructor(
    private readonly folder: string,
    private readonly parse: (value: unknown) => T,
  ) {}

  /** Reads what is there. @throws WeftError FAILED_PRECONDITION where the folder cannot be used */
  load(): TornRecord[] {
    try {
      const { records, torn } = readRecords(this.folder, this.parse, ({ id }) => id);
      for (const record of records) this.#records.set(record.id, record);
      return torn;
    } catch (error) {
      throw this.#unusable(error);
    }
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
