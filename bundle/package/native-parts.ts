// The native parts of the single executable: files beside it, as packages install them, or below the state directory.
//
// The system loads them from files alone. Those that are found are compared with what is inside, byte by byte: nothing else is
// ever loaded.
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { getRawAsset } from 'node:sea';

/** Paths below their folder; names of assets, too. netlink looks for its own at such a path. */
export const KOFFI = 'koffi.node';
export const netlinkPart = (arch: string): string => `netlink/prebuilds/linux-${arch}/node.napi.node`;
const PARTS = [KOFFI, netlinkPart(process.arch)];

/** Replaced when the executable is made: a hash of all of them. */
declare const NATIVE_HASH: string;

class NativePartsError extends Error {
  constructor(
    message: string,
    /** What to do. */
    readonly next: string,
    cause: unknown,
  ) {
    super(message, { cause });
  }
}

export class NativeParts {
  #folder: string | undefined;

  /** @param stateDir where they are written if they are not beside the executable @throws Error with `next` */
  load(stateDir: string): void {
    const beside = join(dirname(process.execPath), '../lib/weft');
    const folder = isWhole(beside) ? beside : written(stateDir);
    try {
      for (const part of PARTS) loadNative(join(folder, part));
    } catch (error) {
      const why = messageOf(error);
      throw new NativePartsError(
        `weft's native parts cannot be loaded from ${folder}: ${why}`,
        /failed to map segment|not permitted/.test(why)
          ? `That is a file system mounted noexec. Mount it without, take another folder (--state-dir), or install weft's package, which has them in /usr/lib/weft.`
          : 'It takes glibc 2.28 or newer, and a machine of the kind that this executable is for.',
        error,
      );
    }
    this.#folder = folder;
  }

  /** What the programs require from outside of their bundles. */
  readonly require = Object.assign(
    (name: string): unknown => {
      if (name === 'koffi') return loadNative(join(this.#loaded, KOFFI));
      return name.endsWith('.node') ? loadNative(name) : require(name);
    },
    { resolve: (name: string) => join(this.#loaded, name) },
  );

  get #loaded(): string {
    if (this.#folder === undefined) throw new Error('the native parts are not loaded yet');
    return this.#folder;
  }
}

function loadNative(path: string): unknown {
  const module = { exports: {} };
  process.dlopen(module, path);
  return module.exports;
}

function isWhole(folder: string): boolean {
  return PARTS.every((part) => {
    try {
      return readFileSync(join(folder, part)).equals(assetOf(part));
    } catch {
      return false;
    }
  });
}

/** Their folder below the state directory; those of other versions are deleted. @throws NativePartsError */
function written(stateDir: string): string {
  const parent = join(stateDir, 'lib');
  const folder = join(parent, NATIVE_HASH);
  if (isWhole(folder)) return folder;
  const fresh = `${folder}.${process.pid}`;
  try {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    // Not recursive: that calls a file system that is read-only a folder that is not there.
    if (!existsSync(parent)) mkdirSync(parent, { mode: 0o700 });
    for (const part of PARTS) {
      mkdirSync(dirname(join(fresh, part)), { recursive: true, mode: 0o700 });
      writeFileSync(join(fresh, part), assetOf(part), { mode: 0o700 });
    }
    for (const name of readdirSync(parent))
      if (/^[0-9a-f]{64}$/.test(name)) rmSync(join(parent, name), { recursive: true });
    renameSync(fresh, folder);
  } catch (error) {
    rmSync(fresh, { recursive: true, force: true });
    throw new NativePartsError(
      `weft's native parts cannot be written to ${folder}: ${messageOf(error)}`,
      'See that the state directory can be written, and has 2 MB.',
      error,
    );
  }
  return folder;
}

/** A part of the executable as it is mapped: nothing is copied. */
export const assetOf = (name: string): Buffer => Buffer.from(getRawAsset(name) as ArrayBuffer);

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
