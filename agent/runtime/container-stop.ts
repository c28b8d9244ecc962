// Ends a container's processes: SIGTERM first, SIGKILL after a timeout.
import { failedPrecondition } from '../../core/errors.js';
import type { ContainerRecord, ContainerState } from './container-state.js';
import { isAlive } from '../kernel/index.js';
import { belongsTo, killAll, signal } from './processes.js';

/** Timeout after SIGKILL. */
const GONE_WITHIN_MS = 5_000;

/**
 * Sends SIGTERM to the command, and after the timeout SIGKILL to all processes.
 * @throws WeftError FAILED_PRECONDITION where a process survives that
 */
export async function endProcesses(
  state: ContainerState,
  record: ContainerRecord,
  seconds: number,
): Promise<void> {
  const folder = state.folderOf(record.id);
  const command = (): number | undefined => {
    const pid = state.commandPid(record.id) ?? (record.detached ? undefined : record.process?.pid);
    return pid !== undefined && (pid === record.process?.pid || belongsTo(pid, folder)) ? pid : undefined;
  };
  const pid = command();
  if (pid !== undefined) signal(pid, 'SIGTERM');
  if (await ends(record, seconds * 1000)) return;
  const still = command();
  if (still !== undefined) signal(still, 'SIGKILL');
  // The process that waits for it records its exit status.
  if (await ends(record, 1000)) return;
  killAll(folder);
  if (record.process !== undefined && isAlive(record.process)) signal(record.process.pid, 'SIGKILL');
  if (await ends(record, GONE_WITHIN_MS)) return;
  throw failedPrecondition(
    `container ${record.name} does not end: process ${record.process?.pid ?? 0} survives SIGKILL`,
    'It hangs in the kernel, as on a file system that does not answer; see its /proc/PID/stack.',
  );
}

async function ends(record: ContainerRecord, withinMs: number): Promise<boolean> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    if (record.process === undefined || !isAlive(record.process)) return true;
    if (Date.now() >= deadline) return false;
    await pause();
  }
}

export const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 20));
