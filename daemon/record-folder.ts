// A folder of small JSON files, one for each record.
//
// A torn or unreadable file costs only its record: it is put aside as NAME.json.torn and reported, never treated as absent.
// Half-written files of a killed process are deleted when the folder is loaded.
import fs, { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { WeftError } from '../core/errors.js';
import { errnoOf } from './errno.js';
import {
  deleteFile,
  type FileCalls,
  LEFTOVER,
  replaceFile,
  stateError,
  syncFolder,
  whyUnreadable,
} from './state-file.js';

export interface TornRecord {
  /** Where it was put aside. */
  path: string;
  /** The name of its file, without .json. */
  id: string;
  why: string;
}

export interface Loaded<T> {
  records: T[];
  torn: TornRecord[];
}

export interface FileOptions {
  calls?: FileCalls;
  /**
   * For a folder that may belong to a running process: nothing on disk is created, written, deleted or put aside, and no call
   * fails for that.
   */
  readOnly?: boolean;
}

export interface RecordFolderOptions<T> extends FileOptions {
  folder: string;
  /** @param name of the file, without .json. @throws if the value is no such record */
  parse: (value: unknown, name: string) => T;
  /** Name of a record's file, without .json. */
  nameOf: (record: T) => string;
  /** What is written; absent: the record itself. */
  encode?: (record: T) => object;
  /**
   * Whether a record must survive a power cut: file and folder are then synced, which takes milliseconds on a disk. A delete
   * is never synced: a record that reappears is handled like one that became stale while the machine was off.
   */
  durable?: boolean | ((record: T) => boolean);
  /** If given, an unreadable file stays in place, and loading fails with this error. */
  refuse?: (path: string, why: string, cause: unknown) => Error;
}

export class RecordFolder<T> {
  readonly #folder: string;
  readonly #calls: FileCalls;

  constructor(private readonly options: RecordFolderOptions<T>) {
    this.#folder = options.folder;
    this.#calls = options.calls ?? fs;
  }

  /** Creates the folder if it is missing. @throws WeftError FAILED_PRECONDITION */
  create(): void {
    if (this.options.readOnly === true) return;
    try {
      const made = mkdirSync(this.#folder, { recursive: true, mode: 0o700 });
      if (made === undefined || (this.options.durable ?? false) === false) return;
      for (let folder = this.#folder; folder.length >= made.length; folder = dirname(folder))
        syncFolder(dirname(folder), this.#calls);
    } catch (error) {
      throw stateError(`the state folder ${this.#folder} cannot be made`, error);
    }
  }

  /** A missing folder has no records. @throws WeftError FAILED_PRECONDITION if it cannot be used */
  load(): Loaded<T> {
    const { readOnly = false, refuse } = this.options;
    const records: T[] = [];
    const torn: TornRecord[] = [];
    for (const name of this.#list()) {
      const path = join(this.#folder, name);
      if (name.endsWith(LEFTOVER)) this.#changes(path, 'cannot be deleted', () => rmSync(path, FORCE));
      if (!name.endsWith(JSON_ENDING)) continue;
      const id = name.slice(0, -JSON_ENDING.length);
      const read = this.#read(path, id);
      if (read === undefined) continue;
      if ('record' in read) {
        records.push(read.record);
        continue;
      }
      const { why } = read;
      if (refuse !== undefined) throw refuse(path, why, read.cause);
      const aside = `${path}${TORN}`;
      this.#changes(path, 'cannot be put aside', () => this.#calls.renameSync(path, aside));
      torn.push({ path: readOnly ? path : aside, id, why });
    }
    return { records, torn };
  }

  /** Replaces the file whole before it returns. @throws WeftError FAILED_PRECONDITION; then the file is unchanged */
  put(record: T): void {
    const path = this.pathOf(this.options.nameOf(record));
    const { durable = false, encode } = this.options;
    const sync = typeof durable === 'function' ? durable(record) : durable;
    const text = `${JSON.stringify(encode === undefined ? record : encode(record))}\n`;
    const write = (): void => replaceFile(path, text, { sync, calls: this.#calls });
    this.#changes(path, 'cannot be written', () => {
      try {
        write();
      } catch (error) {
        if (errnoOf(error) !== 'ENOENT') throw error;
        this.create();
        write();
      }
    });
  }

  /** @throws WeftError FAILED_PRECONDITION */
  delete(name: string): void {
    const path = this.pathOf(name);
    this.#changes(path, 'cannot be deleted', () => deleteFile(path, this.#calls));
  }

  /** What was put aside under this name. @throws WeftError FAILED_PRECONDITION */
  deleteTorn(name: string): void {
    const path = `${this.pathOf(name)}${TORN}`;
    this.#changes(path, 'cannot be deleted', () => deleteFile(path, this.#calls));
  }

  pathOf(name: string): string {
    return join(this.#folder, `${name}${JSON_ENDING}`);
  }

  #list(): string[] {
    try {
      return readdirSync(this.#folder);
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return [];
      throw stateError(`the state folder ${this.#folder} cannot be read`, error);
    }
  }

  /** Undefined if there is no file any more: a reader may be beside a running agent. */
  #read(path: string, id: string): { record: T } | { why: string; cause: unknown } | undefined {
    try {
      const record = this.options.parse(JSON.parse(readFileSync(path, 'utf8')), id);
      const name = this.options.nameOf(record);
      // A copy beside the original would be the same record twice, and deleting one would leave the other.
      if (name !== id) throw new Error(`it is about ${name}, but the file has another name`);
      return { record };
    } catch (cause) {
      if (errnoOf(cause) === 'ENOENT') return undefined;
      return { why: whyUnreadable(cause), cause };
    }
  }

  #changes(path: string, what: string, change: () => void): void {
    if (this.options.readOnly === true) return;
    try {
      change();
    } catch (error) {
      throw error instanceof WeftError ? error : stateError(`the state file ${path} ${what}`, error);
    }
  }
}

/** A record folder with its records in memory, by name. They change after the file was written or deleted. */
export class RecordTable<T> {
  readonly #records = new Map<string, T>();
  readonly #folder: RecordFolder<T>;

  constructor(private readonly options: RecordFolderOptions<T>) {
    this.#folder = new RecordFolder(options);
  }

  /** @throws WeftError FAILED_PRECONDITION */
  create(): void {
    this.#folder.create();
  }

  /** @throws WeftError FAILED_PRECONDITION */
  load(): TornRecord[] {
    const { records, torn } = this.#folder.load();
    for (const record of records) this.#records.set(this.options.nameOf(record), record);
    return torn;
  }

  get(name: string): T | undefined {
    return this.#records.get(name);
  }

  list(): T[] {
    return [...this.#records.values()];
  }

  /** @throws WeftError FAILED_PRECONDITION */
  put(record: T): void {
    this.#folder.put(record);
    this.#records.set(this.options.nameOf(record), record);
  }

  /** @throws WeftError FAILED_PRECONDITION */
  delete(name: string): void {
    this.#folder.delete(name);
    this.#records.delete(name);
  }
}

const JSON_ENDING = '.json';
const TORN = '.torn';
/** Also deletes a folder of that name. */
const FORCE = { force: true, recursive: true } as const;
