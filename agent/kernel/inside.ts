// What runs in a namespace: listening sockets, and whether a question by UDP is answered there.
import { readFileSync } from 'node:fs';

import { IpAddress } from '../../core/address.js';
import type { Listener } from './kernel.js';
import {
  AF_INET,
  AF_INET6,
  closeFd,
  connectSocket,
  openSocketOf,
  receiveFrom,
  sendOn,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from './libc.js';
import { socketAddress } from './port-reservation.js';

/** include/net/tcp_states.h; a UDP socket that is not connected has 7. */
const LISTENS = { tcp: '0A', udp: '07' } as const;

/** When an answer is looked for, in milliseconds after the question. */
const LOOKS = [5, 20, 75, 200, 300, 400];

/** In the namespace of the caller. */
export const readListeners = (): Listener[] =>
  (['tcp', 'udp'] as const).flatMap((protocol) =>
    ['', '6'].flatMap((family) => listenersIn(tableOf(`${protocol}${family}`), protocol)),
  );

/** Empty where the kernel has no IPv6. */
function tableOf(name: string): string {
  try {
    return readFileSync(`/proc/thread-self/net/${name}`, 'utf8');
  } catch {
    return '';
  }
}

/** A table of /proc/net (Documentation/networking/proc_net_tcp.rst). */
export function listenersIn(table: string, protocol: 'tcp' | 'udp'): Listener[] {
  return table
    .split('\n')
    .slice(1)
    .flatMap((line): Listener[] => {
      const [, local = '', , state] = line.trim().split(/\s+/);
      const [address = '', port = ''] = local.split(':');
      if (state !== LISTENS[protocol] || address === '') return [];
      return [{ protocol, port: parseInt(port, 16), ...reachOf(address) }];
    });
}

/** @param hex words of 32 bits in the order of bytes of this machine */
function reachOf(hex: string): Pick<Listener, 'family' | 'reach'> {
  const family = hex.length === 8 ? 4 : 6;
  if (/^0+$/.test(hex)) return { family, reach: 'any' };
  const bytes = Buffer.from(hex, 'hex');
  for (let at = 0; at < bytes.length; at += 4) bytes.subarray(at, at + 4).reverse();
  const isLoopback = family === 4 ? bytes[0] === 127 : /^0{31}1$/.test(bytes.toString('hex'));
  return { family, reach: isLoopback ? 'loopback' : 'address' };
}

/** Opened in the namespace of the caller at once; it is closed when an answer is there, or the time is over. */
export function askByUdp(ip: string, port: number, question: Buffer): Promise<boolean> {
  const address = IpAddress.parse(ip);
  const fd = openSocketOf(address.family === 4 ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK);
  try {
    connectSocket(fd, socketAddress(address, port));
    sendOn(fd, question);
  } catch {
    // There is no way to it.
    closeFd(fd);
    return Promise.resolve(false);
  }
  return answered(fd).finally(() => closeFd(fd));
}

async function answered(fd: number): Promise<boolean> {
  const buffer = Buffer.alloc(2048);
  for (const pause of LOOKS) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    try {
      if (receiveFrom(fd, buffer) !== undefined) return true;
    } catch {
      // ICMP said that nobody is there.
      return false;
    }
  }
  return false;
}
