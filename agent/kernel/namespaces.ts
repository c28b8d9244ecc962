// Going into a network namespace and back, in one stretch in which nothing else runs. A socket that is opened inside
// belongs there for good; nothing may be awaited inside, since Node's other threads must never see it.
import { closeSync, openSync, readFileSync, statfsSync, statSync } from 'node:fs';

import { messageOf, notFound, WeftError } from '../../core/errors.js';
import { enterNamespace, leaveForNewNamespace, SystemError } from './libc.js';
import { NetlinkSocket } from './netlink-socket.js';

/** include/uapi/linux/magic.h */
const NSFS_MAGIC = 0x6e736673;

let home: number | undefined;

/** Runs `work` inside. It must not be asynchronous. */
export function inNamespace<T>(fd: number, work: () => T): T {
  // The namespace that the process began in; opened once, before anything can have left it.
  home ??= openSync('/proc/thread-self/ns/net', 'r');
  enterNamespace(fd);
  try {
    return work();
  } finally {
    enterNamespace(home);
  }
}

/** Runs `work` in a namespace made for it, which goes when `work` has closed what it opened there. Not asynchronous. */
export function inNewNamespace<T>(work: () => T): T {
  home ??= openSync('/proc/thread-self/ns/net', 'r');
  leaveForNewNamespace();
  try {
    return work();
  } finally {
    enterNamespace(home);
  }
}

/**
 * Opens the namespace at a path. The caller closes both.
 * @throws WeftError NOT_FOUND where there is none
 */
export function openNetns(path: string): { fd: number; socket: NetlinkSocket } {
  let fd: number | undefined;
  try {
    // Opening anything else, such as a fifo, could block.
    if (!statSync(path).isFile() || statfsSync(path).type !== NSFS_MAGIC) {
      throw noNamespace(path);
    }
    fd = openSync(path, 'r');
    return { fd, socket: inNamespace(fd, () => new NetlinkSocket()) };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if (error instanceof WeftError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' || code === 'ESRCH' || code === 'ENOTDIR') {
      throw notFound(
        `there is no network namespace ${path}`,
        'See `ip netns`, or whether its process still runs.',
        { cause: error },
      );
    }
    // setns: a namespace, but of another kind.
    if (error instanceof SystemError && error.errno === 'EINVAL') throw noNamespace(path);
    // Everything else (descriptors that ran out, no permission) says nothing about the container: it is not gone.
    throw new Error(`the network namespace ${path} cannot be entered: ${messageOf(error)}`, { cause: error });
  }
}

const noNamespace = (path: string): WeftError =>
  notFound(`${path} is not a network namespace`, 'Name a file such as /run/netns/NAME or /proc/PID/ns/net.');

/** Cookies of namespaces are given anew at each boot. */
export const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
