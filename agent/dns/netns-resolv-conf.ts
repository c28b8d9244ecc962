// `weft attach --dns`: the resolv.conf of a named namespace, in /etc/netns/NAME, where `ip netns exec` takes it from
// (ip-netns(8)). What was there before is kept aside in the state directory, written down before anything is changed, and
// put back when the last endpoint that wanted it has gone; what somebody else has written meanwhile is left to them.
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

import { z } from 'zod';

import { failedPrecondition, invalidArgument, messageOf, WeftError } from '../../core/errors.js';
import { errnoOf } from '../../daemon/errno.js';
import type { Logger } from '../../daemon/log.js';
import { RecordTable } from '../../daemon/record-folder.js';

/** What is in the way of weft's file: text, or a link to somewhere. */
const BEFORE = z.union([z.object({ text: z.string() }), z.object({ link: z.string() }), z.null()]);
const NOTE = z.object({
  before: BEFORE,
  /** The folder was made for the file, and goes with it. */
  madeFolder: z.boolean(),
  written: z.string(),
});
type Note = z.infer<typeof NOTE> & { name: string };

export interface NetnsResolvConfOptions {
  stateDir: string;
  log: Logger;
  /** /etc/netns, but in tests. */
  folder?: string;
}

/** The name of a target that is a namespace in /run/netns; undefined for every other one. */
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
    // Without its note, what is found now counts as what was there.
    for (const { path, why } of this.#notes.load())
      options.log.warn('a note about a resolv.conf cannot be read and is put aside', { path, error: why });
    this.#folder = options.folder ?? '/etc/netns';
  }

  /** @param target canonical. @throws WeftError INVALID_ARGUMENT where it has no resolv.conf that weft could set */
  require(target: string): void {
    if (namespaceName(target) !== undefined) return;
    throw invalidArgument(
      `dns: ${target} is no namespace in /run/netns, and its resolv.conf is not weft’s to set`,
      'Leave --dns out and give the container a resolv.conf of its own (docker run --dns GATEWAY), or name it as netns:/run/netns/NAME.',
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
      // Through a link it would be somebody else's file that is written.
      if (note.before !== null && 'link' in note.before && isLink(path)) rmSync(path);
      // In place: who runs inside already has this very file mounted, and sees the change.
      writeFileSync(path, text);
    } catch (error) {
      throw failedPrecondition(
        `dns: ${path} cannot be written: ${messageOf(error)}`,
        (error instanceof WeftError ? error.next : undefined) ??
          'Make /etc writable for the agent, or leave --dns out.',
        { cause: error },
      );
    }
  }

  /** Puts back what was there. What is not weft's any more stays as it is. */
  reset(target: string): void {
    const name = namespaceName(target);
    if (name !== undefined) this.#reset(name);
  }

  /** Puts back what no endpoint of these targets wants any more; of none: everything. */
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
        this.options.log.warn('a resolv.conf was changed by somebody else and is left to them', { path });
      }
      this.#notes.delete(name);
    } catch (error) {
      this.options.log.warn('a resolv.conf could not be put back', { path, error: messageOf(error) });
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
