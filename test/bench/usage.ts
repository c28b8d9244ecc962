// What processes used: CPU from proc_pid_stat(5), memory from proc_pid_status(5).
import { readdirSync, readFileSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';

/** Seconds of CPU of a process, and of its children that have ended. */
export function cpuOf(pid: number): number {
  const [, , , , , , , , , , , ...times] = statOf(pid);
  const ticks = times.slice(0, 4).map(Number);
  // USER_HZ is 100 on every architecture that Node.js runs on.
  return ticks.reduce((sum, of) => sum + of, 0) / 100;
}

/** Resident megabytes of a process and of all that descend from it. */
export function residentOf(pid: number): number {
  const children = readdirSync('/proc').filter(
    (name) => /^\d+$/.test(name) && parentOf(Number(name)) === pid,
  );
  const own = Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  return children.reduce((sum, child) => sum + residentOf(Number(child)), own);
}

/** Seconds of CPU that one run of each command takes; many runs in turn, so that ticks of 10 ms do not matter. */
export function cpuOfCommands(commands: readonly (readonly string[])[], rounds: number): number[] {
  const sums = commands.map(() => 0);
  for (let round = 0; round < rounds; round++)
    for (const [i, [program = '', ...args]] of commands.entries()) {
      const before = cpuOfChildren();
      spawnSync(program, args, { stdio: 'ignore' });
      sums[i] = (sums[i] ?? 0) + cpuOfChildren() - before;
    }
  return sums.map((sum) => sum / rounds);
}

const cpuOfChildren = (): number =>
  statOf(process.pid)
    .slice(13, 15)
    .reduce((sum, ticks) => sum + Number(ticks), 0) / 100;

const parentOf = (pid: number): number | undefined => {
  try {
    return Number(statOf(pid)[1]);
  } catch {
    return undefined;
  }
};

/** The fields behind the command: the first is the state, the eleventh and twelfth are utime and stime. */
function statOf(pid: number): string[] {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? NaN;
}

/** Runs until a condition holds, looking every few milliseconds; returns the seconds that it took. */
export async function secondsUntil(what: string, holds: () => boolean, timeoutMs = 120_000): Promise<number> {
  const began = performance.now();
  while (!holds()) {
    if (performance.now() - began > timeoutMs) throw new Error(`${what}: not within ${timeoutMs / 1000} s`);
    await delay(2);
  }
  return (performance.now() - began) / 1000;
}
