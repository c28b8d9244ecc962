// Lock of a network namespace: one agent at a time, whatever its prefix and folders.
//
// An agent deletes what carries weft's mark and is in none of its records, so two of them would delete each other's objects.
// The lock is an abstract unix socket (unix(7)): its name belongs to the network namespace, and ends with its process. Who
// finds the name taken learns the pid from the kernel, and what the process does from itself.
import { createServer } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';

import { failedPrecondition, type WeftError } from '../../core/errors.js';
import {
  AF_UNIX,
  bindSocket,
  closeFd,
  connectSocket,
  openSocketOf,
  peerOf,
  receiveFrom,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SystemError,
} from './libc.js';

const NAME = '\0weft-agent';

/** struct sockaddr_un; libuv would bind its unused bytes too, but only in some releases. */
const ADDRESS = Buffer.alloc(2 + NAME.length);
ADDRESS.writeUInt16LE(AF_UNIX, 0);
ADDRESS.write(NAME, 2, 'latin1');

/** A holder that is stopped or hangs accepts, and says nothing. */
const ANSWER_MS = 1000;
const LOOK_MS = 10;
/** Any user may ask, and all of a burst are accepted before the first of them is answered. */
const AT_ONCE = 16;
/** A holder that ends, or is between bind and listen, is none or answers by then. */
const TRIES = 50;

/** Gives the lock back. */
export type AgentLock = () => Promise<void>;

/**
 * Takes the lock of the network namespace that the process runs in.
 * @param says what this process does, for others that want the lock: `serves /run/weft/agent.sock`
 * @param next what to do where another process has it
 * @throws WeftError FAILED_PRECONDITION that names the process that has it
 */
export async function lockNamespace(says: string, next: string): Promise<AgentLock> {
  for (let tries = 0; tries < TRIES; tries++) {
    const fd = bound();
    if (fd !== undefined) return serve(fd, says);
    const taken = await takenBy(next);
    if (taken !== undefined) throw taken;
    await pause(LOOK_MS);
  }
  throw failedPrecondition(
    'a process holds @weft-agent, the socket by which agents exclude each other, and does not answer',
    'Find it with `ss -xap`, and end it.',
  );
}

/** Undefined where another process has the name. */
function bound(): number | undefined {
  const fd = openSocketOf(AF_UNIX, SOCK_STREAM);
  try {
    bindSocket(fd, ADDRESS);
    return fd;
  } catch (error) {
    closeFd(fd);
    if (error instanceof SystemError && error.errno === 'EADDRINUSE') return undefined;
    throw error;
  }
}

async function serve(fd: number, says: string): Promise<AgentLock> {
  const server = createServer((socket) => {
    // One that does not wait for the answer is no fault. One that stays would keep a descriptor, and the end of the agent.
    socket.on('error', () => undefined).end(says, () => socket.destroy());
  });
  server.maxConnections = AT_ONCE;
  await new Promise<void>((resolve, reject) => server.once('error', reject).listen({ fd }, resolve));
  server.unref();
  return () => new Promise((resolve) => server.close(() => resolve()));
}

/** Undefined where nobody listens, or as many wait for a stopped holder as its queue has room for. */
async function takenBy(next: string): Promise<WeftError | undefined> {
  const fd = openSocketOf(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK);
  try {
    connectSocket(fd, ADDRESS);
    const { pid, uid } = peerOf(fd);
    // Any user may bind an abstract name, and answer anything.
    if (uid !== 0 && uid !== process.getuid?.())
      return failedPrecondition(
        `process ${pid} of user ${uid} holds @weft-agent, the socket by which agents exclude each other, and is no agent`,
        'End that process.',
      );
    const says = await answerOn(fd);
    // The kernel shows no pid across pid namespaces, as between two containers.
    const who = pid === 0 ? 'a process in another container' : `process ${pid}`;
    return failedPrecondition(
      `another agent runs in this network namespace: ${who}${says === '' ? ', which does not answer' : `, which ${says}`}`,
      next,
    );
  } catch (error) {
    if (error instanceof SystemError && ['ECONNREFUSED', 'EAGAIN'].includes(error.errno)) return undefined;
    throw error;
  } finally {
    closeFd(fd);
  }
}

async function answerOn(fd: number): Promise<string> {
  const buffer = Buffer.alloc(4096);
  for (let waited = 0; waited < ANSWER_MS; waited += LOOK_MS) {
    const length = receiveFrom(fd, buffer);
    if (length !== undefined) return buffer.toString('utf8', 0, length);
    await pause(LOOK_MS);
  }
  return '';
}
