// The lock by which two agents of one network namespace exclude each other.
import { sh } from './private.js';

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

import test, { type ExecutionContext } from 'ava';

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
