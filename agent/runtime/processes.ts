// Processes of containers, as /proc shows them.
//
// Finds the processes of a container, and ends them.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

import { errnoOf } from '../../daemon/errno.js';
import { processAt } from '../kernel/index.js';

/** The command line of a process. */
export const commandOf = (pid: number): string[] => (read(`/proc/${pid}/cmdline`) ?? '').split('\0');

/** Processes in whose mount namespace something is mounted at `folder`: those of one container, independent of their parents. */
export function processesWith(folder: string): number[] {
  const own = mountNamespace('self');
  const known = new Map<string, boolean>();
  const found: number[] = [];
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    const namespace = mountNamespace(name);
    // Nearly all processes are in the host's mount namespace, and reading its mounts is not cheap.
    if (namespace === undefined || namespace === own) continue;
    let has = known.get(namespace);
    if (has === undefined) known.set(namespace, (has = mountsAt(name, folder)));
    if (has) found.push(Number(name));
  }
  return found;
}

export const belongsTo = (pid: number, folder: string): boolean => mountsAt(String(pid), folder);

/** proc(5): the fifth field is the mount point, with blanks and backslashes as octal escapes. */
function mountsAt(process: string, folder: string): boolean {
  const escaped = folder.replace(
    /[ \t\n\\]/g,
    (char) => `\\${char.charCodeAt(0).toString(8).padStart(3, '0')}`,
  );
  return (read(`/proc/${process}/mountinfo`) ?? '')
    .split('\n')
    .some((line) => line.split(' ', 5)[4] === escaped);
}

/** A process that has already ended is no error. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (errnoOf(error) !== 'ESRCH') throw error;
  }
}

/** Ends all processes of a container, including those forked meanwhile. */
export function killAll(folder: string): void {
  // Each round finds only processes that are new since the last; against a fork bomb the host needs other means.
  for (let round = 0; round < 10; round++) {
    const pids = processesWith(folder).filter((pid) => processAt(pid) !== undefined);
    if (pids.length === 0) return;
    for (const pid of pids) signal(pid, 'SIGKILL');
  }
}

function mountNamespace(process: string): string | undefined {
  try {
    return readlinkSync(`/proc/${process}/ns/mnt`);
  } catch {
    return undefined;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
