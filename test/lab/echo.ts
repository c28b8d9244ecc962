// Servers that say back what they are told, and clients that see whether one does.
import type { Cluster } from './cluster.js';

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
  const argv = [process.execPath, '-e', `${program} setTimeout(() => process.exit(1), 700)`];
  return (await lab.place(from).exec(argv)).code === 0;
}
