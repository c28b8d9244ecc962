// `weft attach --dns`: the resolv.conf of a named namespace, in /etc/netns/NAME, where `ip netns exec` takes it from
// (ip-netns(8)). What was there before is kept aside in the state directory, written down before anything is changed, and
// put back when the last endpoint that wanted it has gone; what somebody else has written meanwhile is left to them.
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';

import { z } from 'zod';

import { failedPrecondition, invalidArgument, messageOf } from '../../core/errors.js';
import { errnoOf } from '../../daemon/errno.js';
import type { Logger } from '../../daemon/log.js';
import { whyUnreadable } from '../../daemon/record-folder.js';
import { replaceFile } from '../state/index.js';

/** What is in the way of weft's file: text, or a link to somewhere. */
const BEFORE = z.union([z.object({ text: z.string() }), z.object({ link: z.string() }), z.null()]);
const ASIDE = z.object({
  before: BEFORE,
  /** The folder was made for the file, and goes with it. */
  madeFolder: z.boolean(),
  written: z.string(),
});
type Aside = z.infer<typeof ASIDE>;

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
  readonly #aside: string;
  readonly #folder: string;

  constructor(private readonly options: NetnsResolvConfOptions) {
    this.#aside = join(options.stateDir, 'resolv-conf');
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
      const aside = this.#read(name) ?? this.#look(path);
      if (aside.written === text && this.#content(path) === text) return;
      mkdirSync(this.#aside, { recursive: true, mode: 0o700 });
      replaceFile(this.#asidePath(name), `${JSON.stringify({ ...aside, written: text })}\n`);
      mkdirSync(dirname(path), { recursive: true });
      // Through a link it would be somebody else's file that is written.
      if (aside.before !== null && 'link' in aside.before && isLink(path)) rmSync(path);
      // In place: who runs inside already has this very file mounted, and sees the change.
      writeFileSync(path, text);
    } catch (error) {
      throw failedPrecondition(
        `dns: ${path} cannot be written: ${messageOf(error)}`,
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
    for (const file of list(this.#aside)) {
      const name = file.replace(/\.json$/, '');
      if (file.endsWith('.json') && !wanted.has(name)) this.#reset(name);
    }
  }

  #reset(name: string): void {
    const path = this.#path(name);
    const aside = this.#read(name);
    if (aside === undefined) return;
    try {
      if (this.#content(path) === aside.written) {
        if (aside.before !== null && 'text' in aside.before) writeFileSync(path, aside.before.text);
        else rmSync(path);
        if (aside.before !== null && 'link' in aside.before) symlinkSync(aside.before.link, path);
        if (aside.madeFolder) removeIfEmpty(dirname(path));
      } else {
        this.options.log.warn('a resolv.conf was changed by somebody else and is left to them', { path });
      }
      rmSync(this.#asidePath(name), { force: true });
    } catch (error) {
      this.options.log.warn('a resolv.conf could not be put back', { path, error: messageOf(error) });
    }
  }

  #path(name: string): string {
    return join(this.#folder, name, 'resolv.conf');
  }

  #asidePath(name: string): string {
    return join(this.#aside, `${name}.json`);
  }

  #read(name: string): Aside | undefined {
    try {
      return ASIDE.parse(JSON.parse(readFileSync(this.#asidePath(name), 'utf8')));
    } catch (error) {
      // Unreadable is as good as not there: then what is found now counts as what was there.
      if (errnoOf(error) !== 'ENOENT') this.#putAside(name, error);
      return undefined;
    }
  }

  #putAside(name: string, error: unknown): void {
    const path = `${this.#asidePath(name)}.torn`;
    renameSync(this.#asidePath(name), path);
    this.options.log.warn('a note about a resolv.conf cannot be read and is put aside', {
      path,
      error: whyUnreadable(error),
    });
  }

  #look(path: string): Aside {
    const madeFolder = !exists(dirname(path));
    if (isLink(path)) return { before: { link: readlinkSync(path) }, madeFolder, written: '' };
    const text = this.#content(path);
    return { before: text === undefined ? null : { text }, madeFolder, written: '' };
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

function list(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch (error) {
    if (errnoOf(error) !== 'ENOTEMPTY' && errnoOf(error) !== 'ENOENT') throw error;
  }
}
