// `weft attach --dns`: /etc/netns/NAME/resolv.conf of a named namespace.
//
// `ip netns exec` mounts it (ip-netns(8)). The previous file is saved in the state directory before anything is changed, and
// restored when the last endpoint that uses it is detached; a file that another process has changed meanwhile is left alone.
import {
  lstatSync,
  mkdirSync,
  readFileSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

import * as z from 'zod';

import { failedPrecondition, invalidArgument, messageOf, nextOf } from '../../core/errors.js';
import { RESOLVER_IP } from '../../core/link-names.js';
import { errnoOf } from '../../daemon/errno.js';
import type { Logger } from '../../daemon/log.js';
import { RecordTable } from '../../daemon/record-folder.js';

/** What weft's file replaced: a text, or a symbolic link. */
const BEFORE = z.union([z.object({ text: z.string() }), z.object({ link: z.string() }), z.null()]);
const NOTE = z.object({
  before: BEFORE,
  /** The folder was created for the file, and is deleted with it. */
  madeFolder: z.boolean(),
  written: z.string(),
});
type Note = z.infer<typeof NOTE> & { name: string };

export interface NetnsResolvConfOptions {
  stateDir: string;
  log: Logger;
  /** Default: /etc/netns; tests use another one. */
  folder?: string;
}

/** The name of a target in /run/netns; undefined for every other target. */
export function namespaceName(target: string): string | undefined {
  const name = /^netns:\/run\/netns\/([^/]+)$/.exec(target)?.[1];
  return name === '.' || name === '..' ? undefined : name;
}

export class NetnsResolvConf {
  readonly #notes: RecordTable<Note>;
  readonly #folder: string;

  constructor(private readonly options: NetnsResolvConfOptions) {
    this.#notes = new RecordTable({
      folder: join(options.stateDir, 'resolv-conf'),
      parse: (value, name) => ({ ...NOTE.parse(value), name }),
      nameOf: ({ name }) => name,
      encode: ({ name: _name, ...note }) => note,
    });
    // Without the note, the file found now counts as the previous one.
    for (const { path, why } of this.#notes.load())
      options.log.warn('a note about a resolv.conf cannot be read and is put aside', { path, error: why });
    this.#folder = options.folder ?? '/etc/netns';
  }

  /** @param target canonical. @throws WeftError INVALID_ARGUMENT where the target has no resolv.conf that weft can set */
  require(target: string): void {
    if (namespaceName(target) !== undefined) return;
    throw invalidArgument(
      `dns: ${target} is no namespace in /run/netns, and its resolv.conf is not weft’s to set`,
      `Leave --dns out and give the container a resolv.conf of its own (docker run --dns ${RESOLVER_IP}), or name it as netns:/run/netns/NAME.`,
    );
  }

  /** @throws WeftError FAILED_PRECONDITION where the file cannot be written; then nothing was changed */
  set(target: string, text: string): void {
    const name = namespaceName(target);
    if (name === undefined) return;
    const path = this.#path(name);
    try {
      const note = this.#notes.get(name) ?? this.#look(name, path);
      if (note.written === text && this.#content(path) === text) return;
      this.#notes.put({ ...note, written: text });
      mkdirSync(dirname(path), { recursive: true });
      // Writing through a link would change another owner's file.
      if (note.before !== null && 'link' in note.before && isLink(path)) rmSync(path);
      // In place: processes inside have this very file mounted, and see the change.
      writeFileSync(path, text);
    } catch (error) {
      throw failedPrecondition(
        `dns: ${path} cannot be written: ${messageOf(error)}`,
        nextOf(error) ?? 'Make /etc writable for the agent, or leave --dns out.',
        { cause: error },
      );
    }
  }

  /** Restores the previous file. A file that is no longer weft's stays as it is. */
  reset(target: string): void {
    const name = namespaceName(target);
    if (name !== undefined) this.#reset(name);
  }

  /** Restores the previous file of every namespace but those of these targets. */
  keepOnly(targets: Iterable<string>): void {
    const wanted = new Set([...targets].map(namespaceName));
    for (const { name } of this.#notes.list()) if (!wanted.has(name)) this.#reset(name);
  }

  #reset(name: string): void {
    const path = this.#path(name);
    const note = this.#notes.get(name);
    if (note === undefined) return;
    try {
      if (this.#content(path) === note.written) {
        if (note.before !== null && 'text' in note.before) writeFileSync(path, note.before.text);
        else rmSync(path);
        if (note.before !== null && 'link' in note.before) symlinkSync(note.before.link, path);
        if (note.madeFolder) removeIfEmpty(dirname(path));
      } else {
        this.options.log.warn('a resolv.conf was changed by another process and stays', { path });
      }
      this.#notes.delete(name);
    } catch (error) {
      this.options.log.warn('a resolv.conf could not be restored', { path, error: messageOf(error) });
    }
  }

  #path(name: string): string {
    return join(this.#folder, name, 'resolv.conf');
  }

  #look(name: string, path: string): Note {
    const madeFolder = !exists(dirname(path));
    if (isLink(path)) return { name, before: { link: readlinkSync(path) }, madeFolder, written: '' };
    const text = this.#content(path);
    return { name, before: text === undefined ? null : { text }, madeFolder, written: '' };
  }

  #content(path: string): string | undefined {
    try {
      return readFileSync(path, 'utf8');
    } catch (error) {
      if (errnoOf(error) === 'ENOENT') return undefined;
      throw error;
    }
  }
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true;
}

const exists = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'ENOENT') throw error;
  }
}
