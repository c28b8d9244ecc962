// Ports of the loopback for servers that a test starts, now or later. Each test process has a range of its own below those
// that the kernel gives out by itself (ip_local_port_range): a port that is free stays so until the test uses it.
import { createServer } from 'node:net';

const FIRST = 10_000;
const END = 32_000;
const OF_ONE = 100;
const base = FIRST + (process.pid % ((END - FIRST) / OF_ONE)) * OF_ONE;
let next = 0;

export async function freePort(): Promise<number> {
  for (let tries = 0; tries < OF_ONE; tries++) {
    const port = base + (next++ % OF_ONE);
    if (await isFree(port)) return port;
  }
  throw new Error(`none of the ports ${base} to ${base + OF_ONE - 1} is free`);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
