// The owner of a port ("address already in use"), read from /proc as ss(8) does.
import { readdir, readFile, readlink } from 'node:fs/promises';
import { isIP } from 'node:net';

import { IpAddress } from '../core/address.js';
import { failedPrecondition, messageOf } from '../core/errors.js';
import type { HostPort } from './kinds.js';

export interface PortOwner {
  pid: number;
  /** The process' name, as ps shows it. */
  command: string;
}

interface Bound {
  inode: string;
  listens: boolean;
  /** Undefined: bound to every address. */
  ip: string | undefined;
}

// include/net/tcp_states.h: TCP_LISTEN. A UDP socket is bound, or it is not.
const LISTEN = '0A';

/**
 * The process that listens on the port, else one that is bound to it. Undefined where there is none, or where it cannot be
 * seen: only the network namespace of this process is searched.
 * @param host an address; a name or a wildcard means any
 */
export async function portOwner(
  host: string,
  port: number,
  protocol: 'tcp' | 'udp' = 'tcp',
): Promise<PortOwner | undefined> {
  const tables = await Promise.all([protocol, `${protocol}6`].map((name) => readSockets(name, port)));
  const wanted = isIP(host) === 0 ? undefined : wildcardOr(IpAddress.parse(host));
  const sockets = tables.flat().filter(({ ip }) => ip === undefined || wanted === undefined || ip === wanted);
  for (const some of [sockets.filter(({ listens }) => listens), sockets]) {
    const owner =
      some.length === 0 ? undefined : await findHolder(new Set(some.map(({ inode }) => `socket:[${inode}]`)));
    if (owner !== undefined) return owner;
  }
  return undefined;
}

/** ` by etcd (pid 4711)`, or nothing where the owner is unknown. */
export async function byWhom(host: string, port: number, protocol: 'tcp' | 'udp' = 'tcp'): Promise<string> {
  const owner = await portOwner(host, port, protocol).catch(() => undefined);
  return owner === undefined ? '' : ` by ${owner.command} (pid ${owner.pid})`;
}

/** Why an address cannot be bound, with the process that owns it. */
export async function explainListenError(
  error: unknown,
  flag: string,
  { host, port, text }: HostPort,
): Promise<Error> {
  const message = messageOf(error);
  if (message.includes('EADDRINUSE')) {
    const owner = await byWhom(host, port);
    return failedPrecondition(
      `${flag}: ${text} is already in use${owner}`,
      `End it, or choose another address with ${flag}.`,
      {
        cause: error,
      },
    );
  }
  const why = message.includes('EADDRNOTAVAIL')
    ? 'is not an address of this host'
    : message.includes('ENOTFOUND') || message.includes('EAI_AGAIN')
      ? 'has a host name that is not known'
      : `cannot be listened on: ${message}`;
  return failedPrecondition(`${flag}: ${text} ${why}`, `Choose another address with ${flag}.`, {
    cause: error,
  });
}

async function readSockets(table: string, port: number): Promise<Bound[]> {
  // A kernel without IPv6 has no tcp6. Of the thread that reads: the main one may be in a container's namespace for a moment.
  const text = await readFile(`/proc/thread-self/net/${table}`, 'utf8').catch(() => '');
  return text
    .split('\n')
    .slice(1)
    .flatMap((line): Bound[] => {
      const [, local = '', , state, , , , , , inode = ''] = line.trim().split(/\s+/);
      const [address = '', portHex = ''] = local.split(':');
      return parseInt(portHex, 16) === port
        ? [{ inode, listens: state === LISTEN, ip: wildcardOr(IpAddress.fromBytes(fromProc(address))) }]
        : [];
    });
}

// The kernel prints addresses as 32-bit words in the machine's byte order; Node runs on little-endian Linux.
function fromProc(hex: string): Uint8Array {
  const bytes = Buffer.from(hex, 'hex');
  return bytes.swap32();
}

function wildcardOr(ip: IpAddress): string | undefined {
  // ::ffff:192.0.2.1 is an IPv4 address in an IPv6 socket (RFC 4291 §2.5.5.2).
  const mapped = ip.family === 6 && ip.value >> 32n === 0xffffn;
  const plain = mapped ? IpAddress.of(4, ip.value & 0xffff_ffffn) : ip;
  return plain.value === 0n ? undefined : plain.toString();
}

async function findHolder(sockets: ReadonlySet<string>): Promise<PortOwner | undefined> {
  for (const pid of await readdir('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    // A process may end while it is read, and other users' processes may be hidden.
    const fds = await readdir(`/proc/${pid}/fd`).catch(() => []);
    for (const fd of fds) {
      const link = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => '');
      if (!sockets.has(link)) continue;
      const command = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '?');
      return { pid: Number(pid), command: command.trim() };
    }
  }
  return undefined;
}
