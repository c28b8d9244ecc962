// System calls of the pump, for many packets at a time.
//
// Memory is passed by address: what the kernel reads and writes is laid out once (arena.ts), and no call converts anything.
import koffi from 'koffi';

import { errnoName, SystemError } from '../libc.js';

const libc = koffi.load('libc.so.6');

const c = {
  poll: libc.func('int poll(uint64_t fds, unsigned long count, int timeout)'),
  read: libc.func('int64_t read(int fd, uint64_t buffer, size_t length)'),
  write: libc.func('int64_t write(int fd, uint64_t buffer, size_t length)'),
  recvmmsg: libc.func(
    'int recvmmsg(int fd, uint64_t messages, unsigned int count, int flags, uint64_t timeout)',
  ),
  sendmmsg: libc.func('int sendmmsg(int fd, uint64_t messages, unsigned int count, int flags)'),
};

const MSG_DONTWAIT = 0x40;

/** @returns how many descriptors are ready */
export const poll = c.poll as (fds: number, count: number, timeoutMs: number) => number;

/** @returns bytes; below 0: see errno */
export const read = c.read as (fd: number, buffer: number, length: number) => number;
export const write = c.write as (fd: number, buffer: number, length: number) => number;

/** @returns messages that were waiting; below 0: see errno */
export const receiveMany = (fd: number, messages: number, count: number): number =>
  c.recvmmsg(fd, messages, count, MSG_DONTWAIT, 0) as number;

/** Waits while the socket's buffer is full. @returns messages that were sent; below 0: see errno */
export const sendMany = (fd: number, messages: number, count: number): number =>
  c.sendmmsg(fd, messages, count, 0) as number;

/** Of the last call. */
export const errno = (): number => koffi.errno();

/** @throws SystemError */
export function failed(call: string): never {
  throw new SystemError(call, errnoName(koffi.errno()));
}
