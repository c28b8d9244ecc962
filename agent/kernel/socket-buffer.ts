// Enlarges the receive buffer of a Node.js UDP socket.
//
// Beyond the host's limit for unprivileged sockets (net.core.rmem_max), so that packets which arrive while this process is busy
// for a moment are not lost.
import { readdirSync } from 'node:fs';

import { IpAddress } from '../../core/address.js';
import { AF_INET, AF_INET6, getSocketOption, setSocketOption, socketName, SystemError } from './libc.js';

// include/uapi/asm-generic/socket.h
const SO_TYPE = 3;
const SO_RCVBUFFORCE = 33;
const SOCK_DGRAM = 2n;

/**
 * Node.js does not expose a socket's descriptor: it is found by the address that it is bound to. Returns whether it was found and
 * the kernel agreed (requires CAP_NET_ADMIN).
 */
export function enlargeReceiveBuffer(ip: string, port: number, bytes: number): boolean {
  const wanted = IpAddress.parse(ip);
  for (const name of readdirSync('/proc/self/fd')) {
    const fd = Number(name);
    try {
      if (!isBoundTo(fd, wanted, port)) continue;
      setSocketOption(fd, SO_RCVBUFFORCE, bytes);
      return true;
    } catch (error) {
      // The descriptor is no longer a socket, or may not be read.
      if (!(error instanceof SystemError)) throw error;
    }
  }
  return false;
}

/** struct sockaddr_in, struct sockaddr_in6. */
function isBoundTo(fd: number, ip: IpAddress, port: number): boolean {
  const bound = socketName(fd);
  if (bound === undefined || bound.readUInt16LE(0) !== (ip.family === 4 ? AF_INET : AF_INET6)) return false;
  if (bound.readUInt16BE(2) !== port) return false;
  const [from, length] = ip.family === 4 ? [4, 4] : [8, 16];
  if (!IpAddress.fromBytes(bound.subarray(from, from + length)).equals(ip)) return false;
  return getSocketOption(fd, SO_TYPE, 4) === SOCK_DGRAM;
}
