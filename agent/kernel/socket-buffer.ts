// The receive buffer of a UDP socket that Node made, beyond what the host allows to everybody (net.core.rmem_max): what
// comes while this process is busy for a moment waits there, and is not lost.
import { readdirSync } from 'node:fs';

import { IpAddress } from '../../core/address.js';
import { AF_INET, AF_INET6, getSocketOption, setSocketOption, socketName, SystemError } from './libc.js';

// include/uapi/asm-generic/socket.h
const SO_TYPE = 3;
const SO_RCVBUFFORCE = 33;
const SOCK_DGRAM = 2n;

/**
 * Node does not say which descriptor a socket of its is: it is found by the address that it is bound to. Answers whether it
 * was found and the kernel agreed (it takes CAP_NET_ADMIN).
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
      // A descriptor that is no socket any more, or no right to.
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
