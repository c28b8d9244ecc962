// Free loopback ports for servers that a test starts, now or later.
//
// Each test process has a range of its own, whose first port it holds while it lives, below those that the kernel allocates by
// itself (ip_local_port_range): a free port stays free until the test uses it.
import { createServer, type Server } from 'node:net';

const FIRST = 10_000;
const RANGES = 220;
const OF_ONE = 100;
let range: Promise<number> | undefined;
let next = 0;

export async function freePort(): Promise<number> {
  const held = await (range ??= takeRange());
  for (let tries = 1; tries < OF_ONE; tries++) {
    const port = held + 1 + (next++ % (OF_ONE - 1));
    const server = await listen(port);
    if (server === undefined) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
  throw new Error(`none of the ports ${held + 1} to ${held + OF_ONE - 1} is free`);
}

async function takeRange(): Promise<number> {
  for (let tries = 0; tries < RANGES; tries++) {
    const first = FIRST + ((process.pid + tries) % RANGES) * OF_ONE;
    const server = await listen(first);
    if (server === undefined) continue;
    server.unref();
    return first;
  }
  throw new Error('as many test processes run as there are ranges of ports');
}

/** Undefined where the port is in use. */
function listen(port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen(port, '127.0.0.1', () => resolve(server));
  });
}
