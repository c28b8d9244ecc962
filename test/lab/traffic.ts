// Traffic between namespaces: pings, and a TCP transfer with a checksum.
//
// A stream of pings counts what is lost.
import { join } from 'node:path';

import { CHECKOUT, type Namespace } from './lab.js';
import { until } from './wait.js';

export interface PingResult {
  sent: number;
  received: number;
  /** Average, milliseconds. */
  averageMs: number | undefined;
  text: string;
}

export interface PingOptions {
  count?: number;
  intervalMs?: number;
  /** Seconds to wait for each reply. */
  waitSeconds?: number;
  /** Bytes of payload; sent with "don't fragment". */
  size?: number;
}

export async function ping(
  from: Pick<Namespace, 'exec'>,
  to: string,
  options: PingOptions = {},
): Promise<PingResult> {
  const { count = 3, intervalMs = 100, waitSeconds = 1, size } = options;
  const argv = ['ping', '-n', '-c', `${count}`, '-i', `${intervalMs / 1000}`, '-W', `${waitSeconds}`];
  if (size !== undefined) argv.push('-s', `${size}`, '-M', 'do');
  const { stdout, stderr } = await from.exec([...argv, to]);
  return parsePing(stdout + stderr);
}

/** Whether a ping arrives now. */
export async function reaches(from: Namespace, to: string, options: PingOptions = {}): Promise<boolean> {
  return (await ping(from, to, { count: 1, ...options })).received > 0;
}

function parsePing(text: string): PingResult {
  const counts = /(\d+) packets transmitted, (\d+) received/.exec(text);
  const average = /= [\d.]+\/([\d.]+)\//.exec(text)?.[1];
  return {
    sent: Number(counts?.[1] ?? 0),
    received: Number(counts?.[2] ?? 0),
    averageMs: average === undefined ? undefined : Number(average),
    text: text.trim(),
  };
}

export interface TransferResult {
  bytes: number;
  /** Whether what arrived has the checksum of what was sent. */
  intact: boolean;
  megabitsPerSecond: number;
}

const PROGRAM = join(CHECKOUT, 'build/test/lab/transfer.js');
let port = 20_000;

/** Sends random bytes over TCP. @throws Error where they do not arrive */
export async function transfer(
  from: Namespace,
  to: Namespace,
  ip: string,
  bytes: number,
): Promise<TransferResult> {
  port += 1;
  const server = to.spawn(`receive-${port}`, [process.execPath, PROGRAM, 'receive', ip, `${port}`]);
  const done = (line: string): Record<string, unknown> | undefined => {
    const found = server
      .log()
      .split('\n')
      .find((text) => text.includes(`"${line}"`));
    return found === undefined ? undefined : (JSON.parse(found) as Record<string, unknown>);
  };
  const context = (): string => server.tail();
  await until(`${to.name} listens on ${ip}:${port}`, () => done('listening'), { context });
  const sent = JSON.parse(
    await from.must([process.execPath, PROGRAM, 'send', ip, `${port}`, `${bytes}`], { timeoutMs: 60_000 }),
  ) as { sha256: string };
  const received = await until('the whole transfer', () => done('sha256'), { context });
  return {
    bytes: Number(received['bytes']),
    intact: received['sha256'] === sent.sha256 && received['bytes'] === bytes,
    megabitsPerSecond: (Number(received['bytes']) * 8) / 1e6 / Number(received['seconds']),
  };
}
