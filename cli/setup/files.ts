// The files that `weft init` and `weft join` write, and `weft leave` deletes.
//
// Nothing that is there is overwritten: only a settings file of comments alone, as a package brings it, is continued.
// /etc/weft/setup.json lists what was written with its hash, so that a file that somebody has changed since, or has put there
// himself, is known as his.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmdirSync } from 'node:fs';
import { dirname, join } from 'node:path';

import { failedPrecondition, messageOf } from '../../core/errors.js';
import { errnoOf } from '../../daemon/errno.js';
import { deleteFile, replaceFile } from '../../daemon/state-file.js';
import { missingIn, saysNothing, type Settings } from './settings.js';

/** Which command has set this host up. */
export type SetupKind = 'init' | 'join';

export interface SetupFile {
  /** As the daemons see it: without --root. */
  readonly path: string;
  readonly text: string;
  readonly mode?: number;
  /** Of a settings file: what one that is there already must say, too. */
  readonly settings?: Settings;
  /** Weft's own, unchanged, may be written anew: a token. */
  readonly renewable?: boolean;
}

interface Manifest {
  kind?: SetupKind;
  /** SHA-256 by path. */
  files: Record<string, string>;
  /** Of files that were continued: how they were, by path. */
  before?: Record<string, string>;
}

const MANIFEST = '/etc/weft/setup.json';

const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export class SetupFiles {
  /** Settings files that have comments alone, by the last check. */
  readonly #blank = new Set<string>();

  /** @param root the folder below which all files are; `/` for this host */
  constructor(readonly root: string) {}

  /** Where a file of the host really is. */
  at(path: string): string {
    return join(this.root, path);
  }

  /** Which command has set the host up; undefined where none has. */
  get kind(): SetupKind | undefined {
    return this.#manifest().kind;
  }

  /** @throws WeftError FAILED_PRECONDITION where a file that is there says something else */
  async check(files: readonly SetupFile[]): Promise<void> {
    for (const file of files) {
      const text = this.#read(file.path);
      if (text === undefined || text === file.text) continue;
      if (file.renewable === true && !this.#isOwn(file.path, text))
        throw failedPrecondition(
          `${this.at(file.path)} is there, and is not of weft init or weft join`,
          'Move it away: nothing that is there is overwritten.',
        );
      if (file.settings === undefined) continue;
      if (!this.#isOwn(file.path, text) && (await saysNothing(text, this.at(file.path)))) {
        this.#blank.add(file.path);
        continue;
      }
      const missing = await missingIn(text, file.settings, this.at(file.path));
      if (missing.length === 0) continue;
      throw failedPrecondition(
        `${this.at(file.path)} is there, and does not say: ${missing.join('; ')}`,
        'Add that, or move the file away: nothing that is there is overwritten.',
      );
    }
  }

  /** After a check: writes those that are not there. Returns the paths that were written. @throws WeftError FAILED_PRECONDITION */
  write(kind: SetupKind, files: readonly SetupFile[]): string[] {
    const manifest = this.#manifest();
    manifest.kind ??= kind;
    const written: string[] = [];
    for (const { path, text, mode = 0o644, renewable = false } of files) {
      const there = this.#read(path);
      const isContinued = there !== undefined && this.#blank.has(path);
      if (there !== undefined && !isContinued && !(renewable && there !== text)) continue;
      const whole = isContinued ? there + text : text;
      if (isContinued) manifest.before = { ...manifest.before, [path]: there };
      manifest.files[path] = hashOf(whole);
      // First in the list: what an interruption leaves is known as weft's.
      this.#save(manifest);
      this.#put(path, whole, mode);
      written.push(this.at(path));
    }
    this.#save(manifest);
    return written;
  }

  /** Deletes what was written and is unchanged, or what was added to it. Returns the paths of changed files, which stay. */
  delete(): string[] {
    const kept: string[] = [];
    const { files, before = {} } = this.#manifest();
    for (const path of Object.keys(files)) {
      const text = this.#read(path);
      const was = before[path];
      if (text !== undefined && !this.#isOwn(path, text)) kept.push(this.at(path));
      else if (text !== undefined && was !== undefined) this.#put(path, was, 0o644);
      else this.#attempt(path, 'deleted', () => deleteFile(this.at(path)));
      if (path.endsWith('.conf')) removeIfEmpty(dirname(this.at(path)));
    }
    this.#attempt(MANIFEST, 'deleted', () => deleteFile(this.at(MANIFEST)));
    removeIfEmpty(dirname(this.at(MANIFEST)));
    return kept;
  }

  /** The text of a file; undefined where there is none. @throws WeftError FAILED_PRECONDITION */
  read(path: string): string | undefined {
    return this.#read(path);
  }

  has(path: string): boolean {
    return existsSync(this.at(path));
  }

  #isOwn(path: string, text: string): boolean {
    return this.#manifest().files[path] === hashOf(text);
  }

  #manifest(): Manifest {
    const text = this.#read(MANIFEST);
    if (text === undefined) return { files: {} };
    try {
      return JSON.parse(text) as Manifest;
    } catch (error) {
      throw failedPrecondition(
        `${this.at(MANIFEST)} is not what weft init and weft join write: ${messageOf(error)}`,
        'Move it away. Then weft leave does not know their files: delete them yourself.',
        { cause: error },
      );
    }
  }

  #save(manifest: Manifest): void {
    this.#put(MANIFEST, `${JSON.stringify(manifest, undefined, 2)}\n`, 0o600);
  }

  #put(path: string, text: string, mode: number): void {
    this.#attempt(path, 'written', () => {
      mkdirSync(dirname(this.at(path)), { recursive: true });
      replaceFile(this.at(path), text, { mode, sync: true });
    });
  }

  #read(path: string): string | undefined {
    return this.#attempt(path, 'read', () => {
      try {
        return readFileSync(this.at(path), 'utf8');
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return undefined;
        throw error;
      }
    });
  }

  #attempt<T>(path: string, done: string, work: () => T): T {
    try {
      return work();
    } catch (error) {
      throw failedPrecondition(
        `${this.at(path)} cannot be ${done}: ${messageOf(error)}`,
        'See that its folder can be written, as root.',
        { cause: error },
      );
    }
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Somebody has files there.
  }
}
