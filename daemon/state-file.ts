// Files of a state directory: atomic replace, delete, and errors.
//
// A process may be killed, and a disk be full, at any moment. A reader finds the old text or the new one, never a part.
import fs from 'node:fs';
import { dirname } from 'node:path';

import type * as z from 'zod';

import { failedPrecondition, messageOf, type WeftError } from '../core/errors.js';
import { errnoOf } from './errno.js';

/** Calls that change files; tests count them and make them fail. */
export type FileCalls = Pick<
  typeof fs,
  'openSync' | 'writeFileSync' | 'fsyncSync' | 'closeSync' | 'renameSync' | 'unlinkSync'
>;

export interface ReplaceOptions {
  mode?: number;
  /** Sync the text and the folder entry before the call returns: they survive a power cut. */
  sync?: boolean;
  calls?: FileCalls;
}

/** Suffix of the file that an interrupted write leaves behind. */
export const LEFTOVER = '.new';

/** Writes beside the file and renames. @throws Error of the system call that failed; then the file is unchanged */
export function replaceFile(
  path: string,
  text: string,
  { mode = 0o600, sync = false, calls = fs }: ReplaceOptions = {},
): void {
  const fresh = `${path}${LEFTOVER}`;
  try {
    if (sync) writeSynced(fresh, text, mode, calls);
    else calls.writeFileSync(fresh, text, { mode });
    calls.renameSync(fresh, path);
  } catch (error) {
    // On a full disk a half-written file keeps the space that the next attempt needs.
    unlinkQuietly(fresh, calls);
    throw error;
  }
  if (sync) syncFolder(dirname(path), calls);
}

function writeSynced(path: string, text: string, mode: number, calls: FileCalls): void {
  const file = calls.openSync(path, 'w', mode);
  try {
    calls.writeFileSync(file, text);
    calls.fsyncSync(file);
  } finally {
    calls.closeSync(file);
  }
}

/** fsync(2): the entry in the folder needs an fsync of its own. */
export function syncFolder(path: string, calls: FileCalls = fs): void {
  const folder = calls.openSync(path, 'r');
  try {
    calls.fsyncSync(folder);
  } catch (error) {
    // A file system that cannot sync a folder (some network and FUSE ones) gives no stronger guarantee.
    if (errnoOf(error) !== 'EINVAL' && errnoOf(error) !== 'ENOTSUP') throw error;
  } finally {
    calls.closeSync(folder);
  }
}

function unlinkQuietly(path: string, calls: FileCalls): void {
  try {
    calls.unlinkSync(path);
  } catch {
    // The next load deletes it.
  }
}

/** A missing file is no error. @throws Error of the system call that failed */
export function deleteFile(path: string, calls: FileCalls = fs): void {
  try {
    calls.unlinkSync(path);
  } catch (error) {
    if (errnoOf(error) !== 'ENOENT') throw error;
  }
}

/** @param what the file or folder and the failed action: "the state file PATH cannot be written" */
export const stateError = (what: string, error: unknown): WeftError =>
  failedPrecondition(`${what}: ${messageOf(error)}`, nextStep(error), { cause: error });

function nextStep(error: unknown): string {
  const elsewhere = 'or name another state directory with --state-dir.';
  switch (errnoOf(error)) {
    case 'ENOSPC':
    case 'EDQUOT':
      return `Give its file system space and inodes (df, df -i), ${elsewhere}`;
    case 'ENOTDIR':
    case 'EEXIST':
      return `A file is where a folder belongs: put a writable folder in its place, ${elsewhere}`;
    case 'EROFS':
      return `Mount its file system writable, ${elsewhere}`;
    default:
      return `Make it readable and writable for this process, ${elsewhere}`;
  }
}

/** The cause in one line; of a schema's issues, the first. */
export function whyUnreadable(error: unknown): string {
  if (!isSchemaError(error)) return messageOf(error);
  const [issue] = error.issues;
  return `${issue?.path.map(String).join('.') ?? ''}: ${issue?.message ?? 'invalid'}`;
}

// By its name: what writes files alone, as commands do, need not load the library.
const isSchemaError = (error: unknown): error is z.ZodError =>
  error instanceof Error && error.name === 'ZodError' && 'issues' in error;
