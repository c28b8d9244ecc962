// A file of lines for root alone, rotated by size: PATH, PATH.1 and so on.
import { closeSync, fstatSync, mkdirSync, openSync, readSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';

import { messageOf } from '../core/errors.js';
import { errnoOf } from './errno.js';
import type { Logger } from './log.js';

export interface RotatingFileOptions {
  path: string;
  /** What it is, for the log: `the audit log`. */
  what: string;
  /** Of one file. */
  mostBytes: number;
  /** How many files are kept beside the one that is written. */
  kept: number;
  log: Pick<Logger, 'error'>;
}

export class RotatingFile {
  #file: number | undefined;
  #size = 0;

  constructor(private readonly options: RotatingFileOptions) {}

  /** Appends lines. A failure is logged: a full disk must not keep a daemon from its work. */
  write(lines: string): void {
    const { path, what, mostBytes, log } = this.options;
    const bytes = Buffer.from(lines);
    try {
      this.#file ??= this.#open();
      if (this.#size > 0 && this.#size + bytes.length > mostBytes) this.#file = this.#rotate();
      this.#size += writeSync(this.#file, bytes);
    } catch (error) {
      log.error(`${what} cannot be written`, { path, error: messageOf(error) });
    }
  }

  close(): void {
    if (this.#file !== undefined) closeSync(this.#file);
    this.#file = undefined;
  }

  #open(): number {
    const { path } = this.options;
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    const file = openSync(path, 'a+', 0o600);
    this.#size = fstatSync(file).size;
    // The writer was killed, or the disk was full: the next line must not become part of that one.
    const last = Buffer.alloc(1);
    if (this.#size > 0 && readSync(file, last, 0, 1, this.#size - 1) === 1 && last.toString() !== '\n')
      this.#size += writeSync(file, '\n');
    return file;
  }

  #rotate(): number {
    const { path, kept } = this.options;
    this.close();
    for (let n = kept - 1; n >= 0; n--) {
      try {
        renameSync(n === 0 ? path : `${path}.${n}`, `${path}.${n + 1}`);
      } catch (error) {
        // There are not that many yet.
        if (errnoOf(error) !== 'ENOENT') throw error;
      }
    }
    return this.#open();
  }
}
