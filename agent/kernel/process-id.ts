// Identifies a process although ids are reused.
import { readFileSync } from 'node:fs';

/** A process. Ids are reused; the pair of id and start time is unique until the next boot. */
export interface ProcessId {
  pid: number;
  /** Clock ticks since boot (proc(5), field 22 of stat). */
  start: string;
}

/** Undefined if it does not exist or is a zombie. */
export function processAt(pid: number): ProcessId | undefined {
  const stat = statOf(pid);
  // The name before it is in parentheses and may contain any byte.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  const start = fields?.[19];
  return start === undefined || fields?.[0] === 'Z' || fields?.[0] === 'X' ? undefined : { pid, start };
}

export const isAlive = (one: ProcessId): boolean => processAt(one.pid)?.start === one.start;

/** Undefined where there is no such process. */
function statOf(pid: number): string | undefined {
  try {
    // A name may have any byte in it.
    return readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
}
