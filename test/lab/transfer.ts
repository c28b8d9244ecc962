// Both ends of a TCP transfer, run inside namespaces.
//
// `receive IP PORT` and `send IP PORT BYTES`; each prints JSON lines. Checksums are computed after the last byte, so that the
// measured time does not include them.
import { createHash, randomFillSync } from 'node:crypto';
import { connect, createServer } from 'node:net';

const say = (fields: Record<string, unknown>): void => console.log(JSON.stringify(fields));
const sha256 = (chunks: readonly Uint8Array[]): string => {
  const hash = createHash('sha256');
  for (const chunk of chunks) hash.update(chunk);
  return hash.digest('hex');
};

function receive(host: string, port: number): void {
  const server = createServer((socket) => {
    server.close();
    const chunks: Buffer[] = [];
    let first = 0;
    socket.on('data', (chunk) => {
      first ||= performance.now();
      chunks.push(chunk);
    });
    socket.on('end', () => {
      const seconds = (performance.now() - first) / 1000;
      socket.end('received');
      say({ sha256: sha256(chunks), bytes: chunks.reduce((sum, { length }) => sum + length, 0), seconds });
    });
  });
  server.listen({ host, port }, () => say({ listening: `${host}:${port}` }));
}

function send(host: string, port: number, bytes: number): void {
  const data = randomFillSync(Buffer.alloc(bytes));
  const socket = connect({ host, port, timeout: 15_000 });
  socket.on('timeout', () => socket.destroy(new Error('nothing moves any more')));
  socket.on('error', (error) => {
    console.error(`${host}:${port}: ${error.message}`);
    process.exitCode = 1;
  });
  socket.end(data);
  // The answer confirms that everything has arrived.
  socket.once('data', () => say({ sha256: sha256([data]), bytes }));
}

const [what, host = '', port = '', bytes = ''] = process.argv.slice(2);
if (what === 'receive') receive(host, Number(port));
else send(host, Number(port), Number(bytes));
