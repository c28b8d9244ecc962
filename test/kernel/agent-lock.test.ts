// The lock by which two agents of one network namespace exclude each other.
import { sh } from './private.js';

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

import {
  AF_UNIX,
  closeFd,
  connectSocket,
  openSocketOf,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from '../../agent/kernel/libc.js';
import { until } from '../lab/wait.js';

const HOLDER = fileURLToPath(new URL('lock-holder.js', import.meta.url));

/** Another process that wants the lock. @param around the command that starts it @returns it, and what it says */
async function taker(
  t: ExecutionContext,
  says: string,
  ...around: string[]
): Promise<{ child: ChildProcess; said: string }> {
  const [command, ...args] = [...around, process.execPath, HOLDER, says];
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [said] = (await once(createInterface(child.stdout), 'line')) as [string];
  return { child, said };
}

/** Connects to who holds the lock, neither reads nor closes, and stays until the test ends. */
function linger(t: ExecutionContext): void {
  const address = Buffer.from('\0\0\0weft-agent');
  address.writeUInt16LE(AF_UNIX, 0);
  const fd = openSocketOf(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK);
  t.teardown(() => closeFd(fd));
  connectSocket(fd, address);
}

async function kill(child: ChildProcess): Promise<void> {
  child.kill('SIGKILL');
  await once(child, 'exit');
}

test.serial('the second is told the process and what it does; a killed one leaves nothing', async (t) => {
  const first = await taker(t, 'serves /run/one.sock');
  t.is(first.said, 'held');
  // Without the padding that libuv gave it in some releases: agents on other versions of Node.js must find it.
  t.regex(sh('cat /proc/self/net/unix'), / @weft-agent$/m);
  const who = `another agent runs in this network namespace: process ${first.child.pid}`;
  t.is((await taker(t, 'serves /run/two.sock')).said, `${who}, which serves /run/one.sock`);
  const apart = await taker(t, 'serves /run/two.sock', 'unshare', '--pid', '--fork', '--kill-child');
  t.regex(apart.said, /: a process in another container, which serves \/run\/one\.sock$/);
  first.child.kill('SIGSTOP');
  t.is((await taker(t, 'serves /run/two.sock')).said, `${who}, which does not answer`);
  await kill(first.child);
  const next = await taker(t, 'serves /run/two.sock');
  t.is(next.said, 'held');
  await kill(next.child);
});

test.serial('each network namespace has its own', async (t) => {
  const here = await taker(t, 'serves /run/one.sock');
  const there = await taker(t, 'serves /run/one.sock', 'unshare', '--net');
  t.deepEqual([here.said, there.said], ['held', 'held']);
  await Promise.all([kill(here.child), kill(there.child)]);
});

test.serial('a process of another user that took the name is named, and not believed', async (t) => {
  const nobody = ['setpriv', '--reuid', '65534', '--clear-groups'];
  const first = await taker(t, 'serves /run/one.sock', ...nobody);
  t.is(first.said, 'held');
  const { said } = await taker(t, 'serves /run/two.sock');
  t.regex(said, new RegExp(`^process ${first.child.pid} of user 65534 holds @weft-agent`));
  t.notRegex(said, /one\.sock/);
  await kill(first.child);
});

test.serial('processes that ask and stay take no descriptors of the holder', async (t) => {
  const { child } = await taker(t, 'serves /run/one.sock');
  const descriptors = (): number => readdirSync(`/proc/${child.pid}/fd`).length;
  const before = descriptors();
  // All of them are accepted together.
  child.kill('SIGSTOP');
  for (let i = 0; i < 40; i++) linger(t);
  child.kill('SIGCONT');
  const next = await taker(t, 'serves /run/two.sock');
  t.regex(next.said, /another agent runs/);
  await until('the holder has closed its ends', () => descriptors() <= before, { timeoutMs: 5000 });
  await kill(child);
});

test.serial('a stopped holder whose queue is full does not answer', async (t) => {
  const allowed = sh('cat /proc/sys/net/core/somaxconn');
  sh('echo 1 > /proc/sys/net/core/somaxconn');
  const { child } = await taker(t, 'serves /run/one.sock');
  sh(`echo ${allowed.trim()} > /proc/sys/net/core/somaxconn`);
  child.kill('SIGSTOP');
  const full = t.throws(() => {
    for (;;) linger(t);
  });
  t.is(full?.message, 'connect: EAGAIN');
  const { said } = await taker(t, 'serves /run/two.sock');
  t.regex(said, /^a process holds @weft-agent, .*, and does not answer$/);
  await kill(child);
});
