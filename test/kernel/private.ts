// Moves the test process into a private network namespace.
//
// The namespace ends with the process. Import it first: the namespace that the process runs in is the "node" of these tests, and
// nothing of the machine is touched.
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { readlinkSync } from 'node:fs';

import koffi from 'koffi';

const CLONE_NEWNET = 0x40000000;
const unshare = koffi.load('libc.so.6').func('int unshare(int flags)');
if (unshare(CLONE_NEWNET) !== 0) throw new Error('these tests need root: unshare failed');

const holders: ChildProcess[] = [];
process.on('exit', () => {
  for (const holder of holders) holder.kill('SIGKILL');
});

/** Runs a shell command on the node; returns what it printed. */
export const sh = (command: string): string => execFileSync('sh', ['-c', command], { encoding: 'utf8' });

/** A container: an idle process in a network namespace of its own. */
export async function container(): Promise<{ pid: number; path: string; end(): Promise<void> }> {
  const holder = spawn('setpriv', ['--pdeathsig', 'KILL', 'unshare', '--net', 'sleep', 'infinity'], {
    stdio: 'ignore',
  });
  holders.push(holder);
  // A test that failed before end() must not keep the process alive.
  holder.unref();
  const pid = holder.pid;
  if (pid === undefined) throw new Error('unshare did not start');
  const mine = readlinkSync('/proc/thread-self/ns/net');
  // Wait until it has left this namespace.
  while (readlinkSync(`/proc/${pid}/ns/net`) === mine) await new Promise((resolve) => setTimeout(resolve, 2));
  return {
    pid,
    path: `/proc/${pid}/ns/net`,
    end: () =>
      new Promise((resolve) => {
        holder.ref();
        holder.once('exit', () => resolve());
        holder.kill('SIGKILL');
      }),
  };
}
