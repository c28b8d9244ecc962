// One run of a lab on this machine: its name, its folder, its removal.
//
// Everything that carries the name is removed with it. The name holds the pid of its owner, so that a later process can tell the
// leftovers of a killed run from a living one.
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';

import { errnoOf } from '../../daemon/errno.js';

/** Namespaces are named RUN-NAME; a run is wt<pid>x<n>, or a demo that is kept. */
const RUN = /^(?:wt(\d+)x\d+|weftdemo)$/;
export const DEMO_RUN = 'weftdemo';
const KEPT = 'kept';

/** Fixed, not os.tmpdir(): the next run must find this one, whatever its TMPDIR. */
const FOLDERS = '/tmp';
const NAMESPACES = '/run/netns';
/** Folder of a namespace's own resolv.conf. */
const NAMESPACE_FILES = '/etc/netns';
const CGROUPS = '/sys/fs/cgroup';

let count = 0;

/** A name that is unique on this machine while this process lives. */
export const newRun = (): string => `wt${process.pid}x${++count}`;

export const folderOf = (run: string): string => join(FOLDERS, run);

/** Creates the run's folder, before anything else of the run exists. @throws EEXIST */
export function claimRun(run: string): string {
  const folder = folderOf(run);
  mkdirSync(folder, { mode: 0o700 });
  writeFileSync(join(folder, 'owner'), identityOf(process.pid) ?? '');
  return folder;
}

/**
 * From now on only `removeRun` by name removes it; no sweep does. A run that has the pid of another process in its name is that
 * one's from now on.
 */
export function keepRun(run: string): void {
  const pid = Number(RUN.exec(run)?.[1] ?? process.pid);
  writeFileSync(join(folderOf(run), 'owner'), pid === process.pid ? KEPT : (identityOf(pid) ?? ''));
}

export function isKept(run: string): boolean {
  return ownFolder(run) && readText(join(folderOf(run), 'owner')) === KEPT;
}

/** Records a process that belongs to the run, in whatever namespaces it is. */
export function recordProcess(run: string, pid: number): void {
  const identity = identityOf(pid);
  if (identity !== undefined) appendFileSync(join(folderOf(run), 'processes'), `${identity}\n`);
}

/** Names in /run/netns that are the run's. */
export function namespacesOf(run: string): string[] {
  return listFolder(NAMESPACES).filter((name) => name.startsWith(`${run}-`));
}

/**
 * Ends every process of a run and deletes its namespaces and folder. Synchronous, so that it also works while this
 * process is exiting. Returns what could not be removed.
 */
export function removeRun(run: string): string[] {
  const names = namespacesOf(run);
  const pids = new Set(recordedProcesses(run));
  for (const name of names) for (const pid of pidsIn(name)) pids.add(pid);
  for (const pid of pidsMounting(folderOf(run))) pids.add(pid);
  pids.delete(process.pid);
  for (const pid of pids) kill(pid);
  waitUntilGone([...pids], 5000);
  removeCgroups(run);
  // Deleting by batch would stop at a name that another sweep has just deleted; -force goes on.
  if (names.length > 0) {
    spawnSync('ip', ['-force', '-batch', '-'], {
      input: names.map((name) => `netns del ${name}\n`).join(''),
    });
  }
  for (const name of listFolder(NAMESPACE_FILES).filter((one) => one.startsWith(`${run}-`))) {
    rmSync(join(NAMESPACE_FILES, name), { recursive: true, force: true });
  }
  if (ownFolder(run)) rmSync(folderOf(run), { recursive: true, force: true, maxRetries: 3 });
  return [
    ...namespacesOf(run).map((name) => `namespace ${name}`),
    ...[...pids].filter(isRunning).map((pid) => `process ${pid}`),
  ];
}

/** Removes the leftovers of runs whose owner has ended. Returns their names. */
export function sweep(): string[] {
  const namespaces = listFolder(NAMESPACES).map((name) => name.split('-')[0] ?? '');
  const runs = new Set([...listFolder(FOLDERS), ...namespaces].filter((name) => RUN.test(name)));
  const dead = [...runs].filter((run) => !isOwned(run));
  for (const run of dead) removeRun(run);
  return dead;
}

function isOwned(run: string): boolean {
  const owner = ownFolder(run) ? readText(join(folderOf(run), 'owner')) : undefined;
  if (owner === KEPT) return true;
  const pid = Number(owner?.split(' ')[0] ?? RUN.exec(run)?.[1]);
  if (!Number.isInteger(pid) || pid <= 0 || !isRunning(pid)) return false;
  const identity = identityOf(pid);
  // A run that has not written its owner yet is identified by its pid alone.
  return identity !== undefined && (owner === undefined || owner === '' || owner === identity);
}

/** Any user can create a folder in /tmp; only this user's are trusted. */
function ownFolder(run: string): boolean {
  try {
    const stat = lstatSync(folderOf(run));
    return stat.isDirectory() && stat.uid === process.getuid?.();
  } catch {
    return false;
  }
}

/** Containers of the run's Docker hosts are in cgroups named after the hosts; nothing else identifies their run. */
function removeCgroups(run: string): void {
  const found = cgroupsOf(run);
  for (let i = 0; i < 100; i++) {
    const pids = found.flatMap((path) =>
      (readText(join(path, 'cgroup.procs')) ?? '').split('\n').filter(Boolean).map(Number),
    );
    if (pids.length === 0) break;
    for (const pid of pids) kill(pid);
    waitUntilGone(pids, 100);
  }
  // The innermost first: only an empty cgroup can be deleted.
  for (const path of found.toReversed()) {
    try {
      rmdirSync(path);
    } catch {
      // A process is still ending; the next sweep finds the cgroup.
    }
  }
}

/** Each before those inside it; with cgroups v1, of every hierarchy. */
function cgroupsOf(run: string): string[] {
  const inside = (path: string): string[] =>
    listFolder(path)
      .map((name) => join(path, name))
      .filter(isFolder)
      .flatMap((child) => [child, ...inside(child)]);
  return [CGROUPS, ...listFolder(CGROUPS).map((name) => join(CGROUPS, name))]
    .flatMap((hierarchy) => listFolder(hierarchy).map((name) => join(hierarchy, name)))
    .filter((path) => basename(path).startsWith(`${run}-`) && isFolder(path))
    .flatMap((path) => [path, ...inside(path)]);
}

function isFolder(path: string): boolean {
  try {
    return lstatSync(path).isDirectory();
  } catch {
    return false;
  }
}

function recordedProcesses(run: string): number[] {
  if (!ownFolder(run)) return [];
  const lines = (readText(join(folderOf(run), 'processes')) ?? '').split('\n').filter((line) => line !== '');
  return lines
    .map((line) => ({ pid: Number(line.split(' ')[0]), line }))
    .filter(({ pid, line }) => identityOf(pid) === line)
    .map(({ pid }) => pid);
}

/** Pid and start time (proc(5), field 22 of stat): pids are reused, the pair is not. */
function identityOf(pid: number): string | undefined {
  const stat = readText(`/proc/${pid}/stat`);
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields === undefined ? undefined : `${pid} ${fields[19] ?? ''}`;
}

function isRunning(pid: number): boolean {
  const stat = readText(`/proc/${pid}/stat`);
  // A zombie only waits for its parent.
  return stat !== undefined && !stat.slice(stat.lastIndexOf(')')).startsWith(') Z');
}

function pidsIn(namespace: string): number[] {
  const { stdout } = spawnSync('ip', ['netns', 'pids', namespace], { encoding: 'utf8' });
  return (stdout ?? '').split('\n').filter(Boolean).map(Number);
}

/** Processes of `weft run`: in namespaces without a name, with a path of the run's folder mounted. */
function pidsMounting(folder: string): number[] {
  return listFolder('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => readText(`/proc/${pid}/mountinfo`)?.includes(` ${folder}/`) === true)
    .map(Number);
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

function waitUntilGone(pids: number[], withinMs: number): void {
  const nap = new Int32Array(new SharedArrayBuffer(4));
  for (const until = Date.now() + withinMs; Date.now() < until && pids.some(isRunning);)
    Atomics.wait(nap, 0, 0, 10);
}

function listFolder(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
