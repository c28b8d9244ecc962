// A temporary network namespace that tests connections: it answers on a port, and tries to reach others.
//
// It has no process and no name: it ends with this agent at the latest. Its sockets are opened inside and used from here.
import { once } from 'node:events';
import { createSocket, type Socket as UdpSocket } from 'node:dgram';
import { closeSync, openSync } from 'node:fs';
import { createServer, Socket, type Server } from 'node:net';

import { IpAddress, type Family } from '../../core/address.js';
import type { TestNamespace } from './kernel.js';
import {
  AF_INET,
  AF_INET6,
  bindSocket,
  closeFd,
  openSocketOf,
  setOption,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOCK_STREAM,
} from './libc.js';
import { inNamespace, inNewNamespace } from './namespaces.js';
import { Pinger } from './ping.js';
import { socketAddress } from './port-reservation.js';

const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const ANY = { 4: '0.0.0.0', 6: '::' } as const;
const QUESTION = 'weft connectivity test';

export function openTestNamespace(): TestNamespace {
  const fd = inNewNamespace(() => openSync('/proc/thread-self/ns/net', 'r'));
  const inside = <T>(work: () => T): T => inNamespace(fd, work);
  const open: { close(): void }[] = [];
  const pinger = new Pinger(inside);
  return {
    path: `/proc/${process.pid}/fd/${fd}`,
    listen: (port) => {
      for (const family of [4, 6] as const) {
        open.push(serveTcp(inside(() => boundSocket(family, SOCK_STREAM, port))));
        open.push(
          serveUdp(
            family,
            inside(() => boundSocket(family, SOCK_DGRAM, port)),
          ),
        );
      }
    },
    connect: (ip, port, timeoutMs) => {
      const { family } = IpAddress.parse(ip);
      const socket = new Socket({ fd: inside(() => plainSocket(family, SOCK_STREAM)) });
      return reply(socket, timeoutMs, () => {
        socket.connect({ host: ip, port });
        socket.write(QUESTION);
      });
    },
    ask: (ip, port, timeoutMs, question = Buffer.from(QUESTION)) => {
      const { family } = IpAddress.parse(ip);
      const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
      const fd = inside(() => boundSocket(family, SOCK_DGRAM, 0));
      return reply(socket, timeoutMs, () => {
        // It is bound already, and listens at once.
        socket.bind({ fd });
        socket.send(question, port, ip);
      });
    },
    ping: async (ip, size, timeoutMs) => (await pinger.ping([{ ip, size }], timeoutMs))[0],
    close: () => {
      for (const one of open) one.close();
      pinger.close();
      closeSync(fd);
    },
  };
}

const plainSocket = (family: Family, type: number): number =>
  openSocketOf(family === 4 ? AF_INET : AF_INET6, type | SOCK_NONBLOCK);

function boundSocket(family: Family, type: number, port: number): number {
  const fd = plainSocket(family, type);
  try {
    if (family === 6) setOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    bindSocket(fd, socketAddress(IpAddress.parse(ANY[family]), port));
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}

/** Answers with what it is sent. */
function serveTcp(fd: number): Server {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  });
  server.on('error', () => undefined);
  return server.listen({ fd });
}

function serveUdp(family: Family, fd: number): UdpSocket {
  const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
  socket.on('error', () => undefined);
  socket.on('message', (message, { address, port }) => socket.send(message, port, address));
  return socket.bind({ fd });
}

/** What came back, or why nothing did. */
async function reply(
  socket: Socket | UdpSocket,
  timeoutMs: number,
  ask: () => void,
): Promise<Buffer | string> {
  const signal = AbortSignal.timeout(timeoutMs);
  const event = socket instanceof Socket ? 'data' : 'message';
  try {
    const answered = once(socket, event, { signal });
    ask();
    const [bytes] = (await answered) as [Buffer];
    return bytes;
  } catch (error) {
    if (signal.aborted) return `no answer within ${timeoutMs / 1000} s`;
    const { code, message } = error as NodeJS.ErrnoException;
    return code ?? message;
  } finally {
    socket.on('error', () => undefined);
    if (socket instanceof Socket) socket.destroy();
    else socket.close();
  }
}
