// C library calls that Node.js lacks: netlink and ICMP sockets, setns.
//
// All of them return at once, unless their comment says otherwise.
import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';

import koffi from 'koffi';

function load() {
  const libc = koffi.load('libc.so.6');

  /** include/uapi/linux/filter.h: the number of instructions, and where they are. */
  const sockFprog = koffi.struct({ length: 'uint16_t', filter: 'uint8_t *' });
  return {
    sockFprog,
    socket: libc.func('int socket(int domain, int type, int protocol)'),
    bind: libc.func('int bind(int fd, const uint8_t *address, uint32_t length)'),
    connect: libc.func('int connect(int fd, const uint8_t *address, uint32_t length)'),
    send: libc.func('int64_t send(int fd, const uint8_t *buffer, size_t length, int flags)'),
    sendto: libc.func(
      'int64_t sendto(int fd, const uint8_t *buffer, size_t length, int flags, const uint8_t *address, uint32_t size)',
    ),
    recv: libc.func('int64_t recv(int fd, _Out_ uint8_t *buffer, size_t length, int flags)'),
    recvfrom: libc.func(
      'int64_t recvfrom(int fd, _Out_ uint8_t *buffer, size_t length, int flags, _Out_ uint8_t *address, _Inout_ uint32_t *size)',
    ),
    close: libc.func('int close(int fd)'),
    setsockopt: libc.func(
      'int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t length)',
    ),
    attachFilter: libc.func('setsockopt', 'int', ['int', 'int', 'int', koffi.pointer(sockFprog), 'uint32_t']),
    getsockopt: libc.func(
      'int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *length)',
    ),
    getsockname: libc.func('int getsockname(int fd, _Out_ uint8_t *address, _Inout_ uint32_t *length)'),
    setns: libc.func('int setns(int fd, int type)'),
    unshare: libc.func('int unshare(int flags)'),
    ioctl: libc.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *argument)'),
    ioctlNumber: libc.func('ioctl', 'int', ['int', 'unsigned long', 'unsigned long']),
    clockGettime: libc.func('int clock_gettime(int clock, _Out_ uint8_t *time)'),
    mallocTrim: libc.func('int malloc_trim(size_t pad)'),
  };
}

let bindings: ReturnType<typeof load> | undefined;
/** Loaded when the first is called: help and refused settings need no native part. */
const c = (): ReturnType<typeof load> => (bindings ??= load());

/** A failed call, with the errno's name: ENODEV, EPERM, … */
export class SystemError extends Error {
  override readonly name = 'SystemError';

  constructor(
    readonly call: string,
    readonly errno: string,
  ) {
    super(`${call}: ${errno}`);
  }
}

/** ENODEV for 19. */
export function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-errno);
  } catch {
    return `errno ${errno}`;
  }
}

function checked(call: string, result: number | bigint): number {
  const value = Number(result);
  if (value < 0) throw new SystemError(call, errnoName(koffi.errno()));
  return value;
}

// include/linux/socket.h, include/uapi/asm-generic/socket.h
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_SOCKET = 1;
const MSG_DONTWAIT = 0x40;
const CLONE_NEWNET = 0x40000000;

export const openSocket = (domain: number, protocol: number): number =>
  checked('socket', c().socket(domain, SOCK_RAW | SOCK_CLOEXEC, protocol) as number);

export const openSocketOf = (domain: number, type: number, protocol = 0): number =>
  checked('socket', c().socket(domain, type | SOCK_CLOEXEC, protocol) as number);

export const bindSocket = (fd: number, address: Buffer): number =>
  checked('bind', c().bind(fd, address, address.length) as number);

export const connectSocket = (fd: number, address: Buffer): number =>
  checked('connect', c().connect(fd, address, address.length) as number);

/** @param argument a structure, or a number itself */
export const ioctl = (fd: number, request: number, argument: Buffer | number): number =>
  checked(
    'ioctl',
    typeof argument === 'number'
      ? (c().ioctlNumber(fd, request, argument) as number)
      : (c().ioctl(fd, request, argument) as number),
  );

export const sendOn = (fd: number, bytes: Buffer): number =>
  checked('send', c().send(fd, bytes, bytes.length, 0) as number);

/** `sendOn` on another thread, for requests that the kernel takes long to complete. @throws SystemError */
export const sendAside = (fd: number, bytes: Buffer): Promise<void> =>
  new Promise((resolve, reject) => {
    c().send.async(fd, bytes, bytes.length, 0, (error: Error | null, sent: number | bigint) => {
      if (error === null && Number(sent) >= 0) resolve();
      else reject(error ?? new SystemError('send', 'EIO'));
    });
  });

export const sendTo = (fd: number, bytes: Buffer, address: Buffer): number =>
  checked('sendto', c().sendto(fd, bytes, bytes.length, MSG_DONTWAIT, address, address.length) as number);

/** Reads a waiting message; undefined where there is none. */
export function receiveFrom(fd: number, buffer: Buffer): number | undefined {
  const length = Number(c().recv(fd, buffer, buffer.length, MSG_DONTWAIT));
  if (length >= 0) return length;
  // Each loop of reading ends with it: that is cheap.
  if (koffi.errno() === constants.errno.EAGAIN) return undefined;
  throw new SystemError('recv', errnoName(koffi.errno()));
}

/** The same, with the address that came with the message, a struct sockaddr, written to `address`. */
export function receiveWithAddress(fd: number, buffer: Buffer, address: Buffer): number | undefined {
  const length = Number(c().recvfrom(fd, buffer, buffer.length, MSG_DONTWAIT, address, [address.length]));
  if (length >= 0) return length;
  const errno = errnoName(koffi.errno());
  if (errno === 'EAGAIN') return undefined;
  throw new SystemError('recvfrom', errno);
}

/** Only what a program of classic BPF passes is received. @param program instructions of 8 bytes */
export function attachFilter(fd: number, program: Buffer): void {
  const value = { length: program.length / 8, filter: program };
  const size = koffi.sizeof(c().sockFprog);
  checked('setsockopt', c().attachFilter(fd, SOL_SOCKET, SO_ATTACH_FILTER, value, size) as number);
}

export function closeFd(fd: number): void {
  c().close(fd);
}

/** `closeFd` on another thread: the kernel waits for an RCU grace period, up to tens of milliseconds, for a packet socket. */
export function closeAside(fd: number): void {
  c().close.async(fd, () => undefined);
}

export function setOption(fd: number, level: number, name: number, value: number | Buffer): void {
  const bytes = typeof value === 'number' ? u32(value) : value;
  checked('setsockopt', c().setsockopt(fd, level, name, bytes, bytes.length) as number);
}

export const setSocketOption = (fd: number, name: number, value: number): void =>
  setOption(fd, SOL_SOCKET, name, value);

export function getSocketOption(fd: number, name: number, size: 4 | 8): bigint {
  const value = Buffer.alloc(size);
  checked('getsockopt', c().getsockopt(fd, SOL_SOCKET, name, value, [size]) as number);
  return size === 8 ? value.readBigUInt64LE() : BigInt(value.readUInt32LE());
}

const SO_ATTACH_FILTER = 26;
const SO_PEERCRED = 17;

/** The process and user that listen at the other end of a unix socket, a struct ucred (unix(7)). */
export function peerOf(fd: number): { pid: number; uid: number } {
  const value = Buffer.alloc(12);
  checked('getsockopt', c().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, [value.length]) as number);
  return { pid: value.readInt32LE(0), uid: value.readUInt32LE(4) };
}

const SO_PROTOCOL = 38;
const SO_DOMAIN = 39;
/** struct sk_meminfo: nine counters, the last one of dropped packets (include/uapi/linux/sock_diag.h). */
const SO_MEMINFO = 55;
const SK_MEMINFO_BYTES = 36;
const SK_MEMINFO_DROPS = 32;

/** How many messages this socket has dropped since it was opened. */
export function droppedBy(fd: number): number {
  const value = Buffer.alloc(SK_MEMINFO_BYTES);
  checked('getsockopt', c().getsockopt(fd, SOL_SOCKET, SO_MEMINFO, value, [value.length]) as number);
  return value.readUInt32LE(SK_MEMINFO_DROPS);
}

/** Whether a descriptor is the netlink socket of this protocol that is bound to this port. */
export function isNetlinkSocket(fd: number, protocol: number, port: number): boolean {
  try {
    if (getSocketOption(fd, SO_DOMAIN, 4) !== BigInt(AF_NETLINK)) return false;
    if (getSocketOption(fd, SO_PROTOCOL, 4) !== BigInt(protocol)) return false;
  } catch {
    return false;
  }
  const address = Buffer.alloc(12);
  return (
    (c().getsockname(fd, address, [address.length]) as number) === 0 && address.readUInt32LE(4) === port >>> 0
  );
}

/** The address that a socket is bound to, a struct sockaddr; undefined for a descriptor that is no socket. */
export function socketName(fd: number): Buffer | undefined {
  const address = Buffer.alloc(28);
  return (c().getsockname(fd, address, [address.length]) as number) === 0 ? address : undefined;
}

/** Moves the calling thread, which is Node's main one, to another network namespace. */
export function enterNamespace(fd: number): void {
  checked('setns', c().setns(fd, CLONE_NEWNET) as number);
}

/** Moves the calling thread to a new, empty network namespace. */
export function leaveForNewNamespace(): void {
  checked('unshare', c().unshare(CLONE_NEWNET) as number);
}

// include/uapi/linux/sockios.h: when the last packet read had arrived.
const SIOCGSTAMPNS = 0x8907;
const CLOCK_REALTIME = 0;

/** Nanoseconds of the wall clock, as in packet timestamps; undefined before the first packet. */
export function receivedAt(fd: number): bigint | undefined {
  const time = Buffer.alloc(16);
  if ((c().ioctl(fd, SIOCGSTAMPNS, time) as number) < 0) return undefined;
  return nanoseconds(time);
}

export function wallClock(): bigint {
  const time = Buffer.alloc(16);
  checked('clock_gettime', c().clockGettime(CLOCK_REALTIME, time) as number);
  return nanoseconds(time);
}

/** Of memory that a call gets by address; it must outlive the call. */
export const addressOf = (memory: Uint8Array): number => Number(koffi.address(memory));

/** Gives back what the C library has kept of freed memory: libnftables needs megabytes for a moment. Takes 1 or 2 ms. */
export function trimMemory(): void {
  c().mallocTrim(0);
}

const nanoseconds = (time: Buffer): bigint =>
  time.readBigInt64LE(0) * 1_000_000_000n + time.readBigInt64LE(8);

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
