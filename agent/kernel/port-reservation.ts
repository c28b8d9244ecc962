// Port reservation: a bound socket keeps a port from other processes.
//
// A published port is translated before any socket lookup, so a process that bound it would wait for connections that never
// arrive. A reservation costs one descriptor and no process, and the kernel itself returns EADDRINUSE to other processes.
import { IpAddress } from '../../core/address.js';
import { failedPrecondition } from '../../core/errors.js';
import type { PortReservation } from './kernel.js';
import {
  AF_INET,
  AF_INET6,
  bindSocket,
  closeFd,
  openSocketOf,
  setOption,
  setSocketOption,
  SOCK_DGRAM,
  SOCK_STREAM,
  SystemError,
} from './libc.js';

// include/uapi/asm-generic/socket.h, include/uapi/linux/in6.h
const SO_REUSEADDR = 2;
const SO_RCVBUF = 8;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** No such family or address: no process can bind the port there either. */
const AWAY = new Set(['EAFNOSUPPORT', 'EADDRNOTAVAIL']);

/** Binds in the network namespace of the calling thread. See Kernel.reservePort. */
export function reservePort(
  text: string,
  port: number,
  protocol: 'tcp' | 'udp',
): PortReservation | 'taken' | 'away' {
  const ip = IpAddress.parse(text, 'hostIp');
  const first = bound(ip, port, protocol, false);
  // Connections of an earlier owner in TIME_WAIT do not count as an owner.
  const fd = first === 'taken' && protocol === 'tcp' ? bound(ip, port, protocol, true) : first;
  if (typeof fd === 'string') return fd;
  let held: number | undefined = fd;
  return {
    release: () => {
      if (held !== undefined) closeFd(held);
      held = undefined;
    },
  };
}

function bound(
  ip: IpAddress,
  port: number,
  protocol: 'tcp' | 'udp',
  reuse: boolean,
): number | 'taken' | 'away' {
  let fd: number | undefined;
  try {
    fd = openSocketOf(ip.family === 4 ? AF_INET : AF_INET6, protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM);
    if (ip.family === 6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    // Packets that arrive nevertheless, from ::1 for example, are never read.
    if (protocol === 'udp') setSocketOption(fd, SO_RCVBUF, 0);
    if (reuse) setSocketOption(fd, SO_REUSEADDR, 1);
    bindSocket(fd, socketAddress(ip, port));
    // With it, other sockets with the option could listen; without it the kernel refuses them, at listen(2) at the latest
    // (net/ipv4/inet_connection_sock.c, inet_bind_conflict).
    if (reuse) setSocketOption(fd, SO_REUSEADDR, 0);
    return fd;
  } catch (error) {
    if (fd !== undefined) closeFd(fd);
    if (!(error instanceof SystemError)) throw error;
    if (error.errno === 'EADDRINUSE') return 'taken';
    if (AWAY.has(error.errno)) return 'away';
    throw failedPrecondition(
      `port ${port}/${protocol} of ${ip.toString()} cannot be held: ${error.message}`,
      error.errno === 'EMFILE'
        ? 'Raise the limit of open files of the agent (LimitNOFILE= of its systemd unit).'
        : 'The agent needs the rights of root.',
      { cause: error },
    );
  }
}

/** struct sockaddr_in, struct sockaddr_in6. */
export function socketAddress(ip: IpAddress, port: number): Buffer {
  const bytes = Buffer.alloc(ip.family === 4 ? 16 : 28);
  bytes.writeUInt16LE(ip.family === 4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(ip.toBytes(), ip.family === 4 ? 4 : 8);
  return bytes;
}
