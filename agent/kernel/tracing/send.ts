// Sends the packets of a trace from a namespace, as a process in it would: by its routes, and through its rules.
import type { Family } from '../../../core/address.js';
import { IpAddress } from '../../../core/address.js';
import {
  AF_INET,
  AF_INET6,
  bindSocket,
  closeFd,
  openSocket,
  openSocketOf,
  sendTo,
  setOption,
  SOCK_DGRAM,
  SOCK_STREAM,
  socketName,
  SystemError,
} from '../libc.js';
import { socketAddress } from '../port-reservation.js';
import { encodeAnswer, encodeProbe, protocolNumber, type TracePacket } from './probe.js';

// include/uapi/linux/in.h, in6.h: DF is set, whatever path MTU the kernel has learnt.
const DISCOVER = { 4: { level: 0, name: 10 }, 6: { level: 41, name: 23 } } as const;
const PMTUDISC_PROBE = 3;
/** A SYN to it is answered with a reset, and a datagram with an ICMP error, so it must be nobody's. */
const ANY_PORT = 0;

const domainOf = (family: Family): number => (family === 4 ? AF_INET : AF_INET6);

/** In the namespace of the caller. @returns the name of an errno; undefined: the kernel has taken it */
export const sendProbe = (packet: TracePacket): string | undefined => send(packet, encodeProbe(packet));

/** The same for what a UDP port would answer. @param packet from the port */
export const sendAnswer = (packet: TracePacket): string | undefined => send(packet, encodeAnswer(packet));

function send(packet: TracePacket, bytes: Buffer): string | undefined {
  const { family, source, destination } = packet;
  let fd: number | undefined;
  try {
    fd = openSocket(domainOf(family), protocolNumber(packet));
    const { level, name } = DISCOVER[family];
    setOption(fd, level, name, PMTUDISC_PROBE);
    bindSocket(fd, socketAddress(IpAddress.parse(source), 0));
    sendTo(fd, bytes, socketAddress(IpAddress.parse(destination), 0));
    return undefined;
  } catch (error) {
    if (error instanceof SystemError) return error.errno;
    throw error;
  } finally {
    if (fd !== undefined) closeFd(fd);
  }
}

/** A port that is nobody's until it is released, so that the answer disturbs nobody. @throws SystemError */
export function takePort(protocol: 'tcp' | 'udp', source: string): { port: number; release: () => void } {
  const ip = IpAddress.parse(source);
  const fd = openSocketOf(domainOf(ip.family), protocol === 'tcp' ? SOCK_STREAM : SOCK_DGRAM);
  try {
    bindSocket(fd, socketAddress(ip, ANY_PORT));
    return { port: socketName(fd)?.readUInt16BE(2) ?? 0, release: () => closeFd(fd) };
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
