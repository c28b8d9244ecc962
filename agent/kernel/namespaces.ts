// Enters a network namespace and returns, in one synchronous stretch.
//
// A socket that is opened inside belongs to that namespace for good. Nothing may be awaited inside, since Node's other threads
// must never run there.
import { closeSync, existsSync, openSync, readFileSync, statfsSync, statSync } from 'node:fs';

import {
  failedPrecondition,
  messageOf,
  notFound,
  permissionDenied,
  resourceExhausted,
  WeftError,
} from '../../core/errors.js';
import { enterNamespace, leaveForNewNamespace, SystemError } from './libc.js';
import { NetlinkSocket } from './netlink-socket.js';

/** include/uapi/linux/magic.h */
const NSFS_MAGIC = 0x6e736673;

let home: number | undefined;

/** Runs `work` inside. It must be synchronous. */
export function inNamespace<T>(fd: number, work: () => T): T {
  // The namespace that the process started in, opened before anything can leave it.
  home ??= openSync('/proc/thread-self/ns/net', 'r');
  enterNamespace(fd);
  try {
    return work();
  } finally {
    enterNamespace(home);
  }
}

/** Runs `work`, which must be synchronous, in a new namespace, which ends when `work` has closed what it opened there. */
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
 * Opens the namespace at a path. The caller closes both descriptors.
 * @throws WeftError NOT_FOUND where it does not exist; PERMISSION_DENIED, RESOURCE_EXHAUSTED or FAILED_PRECONDITION where it
 * cannot be opened now, which does not mean that it is absent
 */
export function openNetns(path: string): { fd: number; socket: NetlinkSocket } {
  let fd: number | undefined;
  try {
    // Opening other files, such as a fifo, could block.
    if (!statSync(path).isFile() || statfsSync(path).type !== NSFS_MAGIC) {
      throw noNamespace(path);
    }
    fd = openSync(path, 'r');
    return { fd, socket: inNamespace(fd, () => new NetlinkSocket()) };
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    if (error instanceof WeftError) throw error;
    throw explain(path, error);
  }
}

const noNamespace = (path: string): WeftError =>
  notFound(`${path} is not a network namespace`, 'Name a file such as /run/netns/NAME or /proc/PID/ns/net.');

/** Maps an errno of stat(2), open(2), setns(2) or socket(2) to an error about the namespace at a path. */
function explain(path: string, error: unknown): WeftError {
  const inside = error instanceof SystemError ? error.call : undefined;
  const errno = error instanceof SystemError ? error.errno : (error as NodeJS.ErrnoException).code;
  const options = { cause: error };
  const pid = /^\/proc\/(\d+)(?=\/)/.exec(path)?.[1];
  // A namespace of another type.
  if (inside === 'setns' && errno === 'EINVAL') return noNamespace(path);
  switch (errno) {
    case 'ENOENT':
    case 'ESRCH':
    case 'ENOTDIR':
      if (pid !== undefined && isHidden(pid)) return hidden(path, pid, options);
      return notFound(
        `there is no network namespace ${path}`,
        'See `ip netns`, or whether its process still runs.',
        options,
      );
    case 'ELOOP':
    case 'ENAMETOOLONG':
      return notFound(
        `there is no network namespace ${path.slice(0, 100)}: ${errno}`,
        'Name a file such as /run/netns/NAME or /proc/PID/ns/net.',
        options,
      );
    case 'EACCES':
    case 'EPERM':
      return permissionDenied(
        `the network namespace ${path} ${refusal(inside)}`,
        remedy(inside, pid),
        options,
      );
    case 'EMFILE':
    case 'ENFILE':
      return resourceExhausted(
        `the network namespace ${path} cannot be opened: ${errno}, too many open files`,
        errno === 'EMFILE'
          ? 'Raise the limit of the agent (LimitNOFILE= in its unit, or ulimit -n).'
          : 'Raise the limit of the host: sysctl fs.file-max.',
        options,
      );
    case 'ENOMEM':
    case 'ENOBUFS':
      return resourceExhausted(
        `the network namespace ${path} cannot be opened: ${errno}, the kernel has no memory for it`,
        'Free memory on the host, then try again.',
        options,
      );
    default:
      return failedPrecondition(
        `the network namespace ${path} cannot be opened: ${messageOf(error)}`,
        'See whether `nsenter --net=FILE ip link`, run as the agent is, works.',
        options,
      );
  }
}

const refusal = (call: string | undefined): string =>
  call === undefined
    ? 'may not be looked at: permission denied'
    : call === 'setns'
      ? 'may not be entered: permission denied'
      : `has been entered, but ${call} is refused there: permission denied`;

/**
 * proc_ns_get_link (fs/proc/namespaces.c) requires ptrace read access, netns_install (net/core/net_namespace.c) CAP_SYS_ADMIN.
 */
function remedy(call: string | undefined, pid: string | undefined): string {
  if (call === 'setns')
    return 'Give the agent CAP_SYS_ADMIN in the user namespace that the network namespace belongs to.';
  if (call !== undefined) return 'Allow the agent netlink sockets (seccomp, AppArmor, SELinux).';
  if (pid !== undefined) return 'Run the agent as root, with CAP_SYS_PTRACE.';
  return 'Run the agent as root, or give it the right to read this file and to pass the folders above it.';
}

const hidden = (path: string, pid: string, options: ErrorOptions): WeftError =>
  permissionDenied(
    `the network namespace ${path} may not be looked at: process ${pid} runs, and /proc does not show it`,
    'Run the agent with CAP_SYS_PTRACE where /proc is mounted with hidepid, and with the host’s own /proc and process ids (hostPID) where it is in a container.',
    options,
  );

/** Where /proc hides processes of other users (proc(5), hidepid), a running process looks as if it had ended. */
function isHidden(pid: string): boolean {
  if (existsSync(`/proc/${pid}`)) return false;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Namespace cookies are only unique within one boot. */
export const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
