// Servers that say back what they are told, and clients that see whether one does.
import type { ExecutionContext } from 'ava';

import type { Cluster } from './cluster.js';
import type { LabProcess } from './process.js';

let count = 0;

/** Echoes what it is sent by TCP, and answers every datagram, at these ports of all addresses. */
export function serveEcho(lab: Cluster, where: string, ports: readonly number[]): void {
  const program = `
    const net = require('net'), dgram = require('dgram');
    for (const port of [${ports.join(', ')}]) {
      net.createServer((s) => { s.on('error', () => {}); s.pipe(s); }).listen(port, '::');
      const u = dgram.createSocket('udp6');
      u.on('message', (m, r) => u.send(m, r.port, r.address));
      u.bind(port, '::');
    }`;
  lab.spawn(`server-${where}-${++count}`, where, [process.execPath, '-e', program]);
}

/** Whether a line comes back. */
export async function talks(
  lab: Cluster,
  from: string,
  to: string,
  port: number,
  protocol: 'tcp' | 'udp' = 'tcp',
): Promise<boolean> {
  const program =
    protocol === 'tcp'
      ? `const s = require('net').connect(${port}, '${to}', () => s.write('x')); s.on('data', () => process.exit(0)); s.on('error', () => process.exit(1));`
      : `const s = require('dgram').createSocket('${to.includes(':') ? 'udp6' : 'udp4'}'); s.on('message', () => process.exit(0)); s.send('x', ${port}, '${to}');`;
  const argv = [process.execPath, '-e', `${program} setTimeout(() => process.exit(1), 1500)`];
  return (await lab.place(from).exec(argv)).code === 0;
}

/** A connection that says something ten times a second. */
export async function connection(
  lab: Cluster,
  t: ExecutionContext,
  from: string,
  to: string,
  port: number,
): Promise<LabProcess> {
  const program = `const s = require('net').connect(${port}, '${to}', () => { console.log('ready'); setInterval(() => s.write('x'), 100); }); s.on('data', () => console.log('answer'));`;
  const started = lab.spawn(`connection-${++count}`, from, [process.execPath, '-e', program]);
  t.teardown(() => started.stop());
  // The command line is in the log as well.
  await lab.until(`${from} talks to ${to}`, () => answers(started) > 3);
  return started;
}

const answers = (one: LabProcess): number => one.log().split('answer').length - 1;

/** Whether it gets answers, over a while in which it asks often; on a busy machine they take longer. */
export async function goesOn(one: LabProcess): Promise<boolean> {
  const before = answers(one);
  const deadline = performance.now() + 3000;
  while (performance.now() < deadline && answers(one) <= before + 2)
    await new Promise((resolve) => setTimeout(resolve, 50));
  return answers(one) > before + 2;
}
