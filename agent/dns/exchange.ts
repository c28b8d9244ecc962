// One DNS query to one server, over UDP or TCP.
//
// Each query has its own socket, and so its own port: a forged answer has to guess 32 bits. The socket is connected: the kernel
// delivers only what the server itself sends.
import { createSocket } from 'node:dgram';
import { connect } from 'node:net';

export interface ServerAddress {
  /** With a zone if link-local. */
  ip: string;
  port: number;
}

/** Of an address, also with a zone. Node.js compiles a long expression for isIPv6, 4 ms at every start. */
export const isIp6 = (ip: string): boolean => ip.includes(':');

export const shownServer = ({ ip, port }: ServerAddress): string =>
  port === 53 ? ip : isIp6(ip) ? `[${ip}]:${port}` : `${ip}:${port}`;

/** @returns the first message that `accept` takes @throws Error where the server cannot be reached; the signal's reason */
export function askUdp<T>(
  { ip, port }: ServerAddress,
  message: Buffer,
  accept: (answer: Buffer) => T | undefined,
  signal: AbortSignal,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const socket = createSocket(isIp6(ip) ? 'udp6' : 'udp4');
    const finish = (act: () => void): void => {
      signal.removeEventListener('abort', aborted);
      // Not those of Node's own: without them a socket that is closed before it is bound stays open.
      socket.removeAllListeners('message');
      socket.off('error', fail).off('connect', send);
      // Late errors (ICMP) of a closing socket do not matter.
      socket.on('error', () => undefined);
      try {
        socket.close();
      } catch {
        // It was never bound.
      }
      act();
    };
    const fail = (error: Error): void => finish(() => reject(error));
    const aborted = (): void => fail(signal.reason as Error);
    const send = (): void =>
      socket.send(message, (error) => {
        if (error !== null) fail(error);
      });
    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted, { once: true });
    socket.on('error', fail);
    socket.on('message', (answer) => {
      const taken = accept(answer);
      if (taken !== undefined) finish(() => resolve(taken));
    });
    // A callback given to connect would receive its failure (no route) in place of 'error'.
    socket.once('connect', send);
    socket.connect(port, ip);
  });
}

/** @throws Error where the server cannot be reached, or answers something else; the signal's reason */
export function askTcp<T>(
  { ip, port }: ServerAddress,
  message: Buffer,
  accept: (answer: Buffer) => T | undefined,
  signal: AbortSignal,
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const socket = connect({ host: ip, port });
    const chunks: Buffer[] = [];
    const finish = (act: () => void): void => {
      signal.removeEventListener('abort', aborted);
      socket.removeAllListeners();
      socket.on('error', () => undefined);
      socket.destroy();
      act();
    };
    const fail = (error: Error): void => finish(() => reject(error));
    const aborted = (): void => fail(signal.reason as Error);
    if (signal.aborted) return aborted();
    signal.addEventListener('abort', aborted, { once: true });
    socket.on('error', fail);
    socket.on('close', () => fail(new Error('the server closed the connection without an answer')));
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      const all = chunks.length === 1 ? chunk : Buffer.concat(chunks);
      if (all.length < 2) return;
      const length = all.readUInt16BE(0);
      if (all.length < 2 + length) return;
      const taken = accept(all.subarray(2, 2 + length));
      if (taken === undefined) fail(new Error('the answer does not match the query'));
      else finish(() => resolve(taken));
    });
    socket.write(framed(message));
  });
}

/** A message with the length prefix of TCP. */
export function framed(message: Buffer): Buffer {
  const frame = Buffer.allocUnsafe(2 + message.length);
  frame.writeUInt16BE(message.length, 0);
  message.copy(frame, 2);
  return frame;
}
