// TUN devices by ioctl (include/uapi/linux/if_tun.h): rtnetlink changes and deletes them, and makes none.
import { closeSync, constants, openSync } from 'node:fs';

import { ioctl, SystemError } from './libc.js';

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
/** Whole IP packets, and nothing before them. */
const IFF_TUN = 0x0001;
const IFF_NO_PI = 0x1000;
const IFREQ_BYTES = 40;
const IFREQ_FLAGS = 16;

/**
 * The descriptor by which a process has the device of this name, which is made where there is none.
 * @throws SystemError EBUSY where another process has it
 */
export function openTun(name: string): number {
  let fd: number;
  try {
    fd = openSync('/dev/net/tun', constants.O_RDWR | constants.O_NONBLOCK);
  } catch (error) {
    throw new SystemError('open /dev/net/tun', (error as NodeJS.ErrnoException).code ?? 'EIO');
  }
  const request = Buffer.alloc(IFREQ_BYTES);
  request.write(name, 'latin1');
  request.writeUInt16LE(IFF_TUN | IFF_NO_PI, IFREQ_FLAGS);
  try {
    ioctl(fd, TUNSETIFF, request);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** Makes a device that stays when no process has it. @throws SystemError */
export function createTun(name: string): void {
  const fd = openTun(name);
  try {
    ioctl(fd, TUNSETPERSIST, 1);
  } finally {
    closeSync(fd);
  }
}
