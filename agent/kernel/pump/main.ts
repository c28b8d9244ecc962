// The pump's process: `node build/programs/pump.js LINK LOCAL PORT COUNTERS [PID]`.
//
// It needs the agent for nothing once it runs. PID is the pump that it takes over from.
import { writeFileSync } from 'node:fs';
import { setPriority } from 'node:os';

import { IpAddress } from '../../../core/address.js';
import { messageOf } from '../../../core/errors.js';
import {
  AF_INET,
  bindSocket,
  openSocketOf,
  setOption,
  setSocketOption,
  SOCK_DGRAM,
  SystemError,
} from '../libc.js';
import { NetlinkSocket } from '../netlink-socket.js';
import { getLink } from '../objects/link-messages.js';
import { openTun } from '../tun.js';
import { noCounts } from './counters.js';
import { endPump } from './processes.js';
import { runPump } from './loop.js';
import { PeerRoutes } from './peer-routes.js';
import { Prefixes } from './prefixes.js';

// include/uapi/asm-generic/socket.h, include/uapi/linux/in.h
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;
const IPPROTO_IP = 0;
const IP_MTU_DISCOVER = 10;
const IP_PMTUDISC_DONT = 0;
const BUFFER = 4 * 1024 * 1024;

/** Before other processes: the packets of all containers wait for it. */
const PRIORITY = -10;

/** How long the pump before this one may take to end, in milliseconds. */
const TAKE_OVER_MS = 3000;

export function main([link = '', local = '', port = '', file = '', before]: readonly string[]): void {
  try {
    const prefixes = new Prefixes();
    const routes = new PeerRoutes(prefixes, indexOf(link));
    goFirst();
    if (before !== undefined) endPump(Number(before));
    const tun = whenFree(() => openTun(link));
    const socket = whenFree(() => openUdp(local, Number(port)));
    runPump({ tun, socket, port: Number(port), prefixes, routes, counters: noCounts(), file });
  } catch (error) {
    process.stderr.write(`${messageOf(error)}\n`);
    process.exitCode = 1;
  }
}

function goFirst(): void {
  try {
    setPriority(PRIORITY);
    // The pump has a session of its own. Where the kernel shares the time out among sessions (sched(7), autogroup), a process'
    // priority counts within its own alone.
    writeFileSync('/proc/self/autogroup', String(PRIORITY));
  } catch {
    // It works without, later than others.
  }
}

/** @throws Error where there is no such link */
function indexOf(link: string): number {
  const socket = new NetlinkSocket();
  const found = socket.get(getLink(link));
  socket.close();
  if (found === undefined) throw new Error(`there is no link ${link}`);
  return found.body.readInt32LE(4);
}

/** Tries again while the pump before this one ends. @throws SystemError */
function whenFree<T>(open: () => T): T {
  const until = performance.now() + TAKE_OVER_MS;
  for (;;) {
    try {
      return open();
    } catch (error) {
      const isTaken = error instanceof SystemError && ['EBUSY', 'EADDRINUSE'].includes(error.errno);
      if (!isTaken || performance.now() > until) throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
}

/** @throws SystemError */
function openUdp(local: string, port: number): number {
  const socket = openSocketOf(AF_INET, SOCK_DGRAM);
  setSocketOption(socket, SO_SNDBUFFORCE, BUFFER);
  setSocketOption(socket, SO_RCVBUFFORCE, BUFFER);
  // A path that carries less than this node's link gets fragments, as with VXLAN, and not silence.
  setOption(socket, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DONT);
  const address = Buffer.alloc(16);
  address.writeUInt16LE(AF_INET, 0);
  address.writeUInt16BE(port, 2);
  address.set(IpAddress.parse(local).toBytes(), 4);
  bindSocket(socket, address);
  return socket;
}
