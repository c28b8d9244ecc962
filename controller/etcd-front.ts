// TLS and plain text of the embedded etcd at one address, while a cluster moves from one to the other.
//
// etcd itself can serve both at one address, but which of its two servers then gets the plain connections is a race at its
// start (etcd 3.4, embed/serve.go: two goroutines read one variable, which is set again between them). So each has a port of
// its own on loopback, and this listener leads to it by a connection's first byte.
import { connect, createServer, type Server, type Socket } from 'node:net';

import { startsTls } from '../daemon/grpc-front.js';

/** Ports on 127.0.0.1. */
export interface EtcdPorts {
  tls: number;
  plain: number;
}

/** How long a client may take for its first byte. */
const SILENCE_MS = 5000;

export class EtcdFront {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(ports: EtcdPorts) {
    this.#server = createServer((socket) => {
      this.#keep(socket);
      const silent = setTimeout(() => socket.destroy(), SILENCE_MS);
      socket.once('close', () => clearTimeout(silent));
      socket.once('readable', () => {
        clearTimeout(silent);
        const first = socket.read(1) as Buffer | null;
        if (first === null) return void socket.destroy();
        socket.unshift(first);
        this.#lead(socket, startsTls(first) ? ports.tls : ports.plain);
      });
    });
  }

  /** @throws the error of listen(2) */
  async listen(url: string): Promise<void> {
    const { hostname, port } = new URL(url);
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject);
      this.#server.listen({ host: hostname.replaceAll(/[[\]]/g, ''), port: Number(port) }, resolve);
    });
  }

  /** Its connections end, too. */
  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }

  #lead(socket: Socket, port: number): void {
    const inner = connect({ host: '127.0.0.1', port, noDelay: true });
    this.#keep(inner);
    socket.setNoDelay(true);
    socket.pipe(inner).pipe(socket);
    socket.once('close', () => inner.destroy());
    inner.once('close', () => socket.destroy());
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => this.#sockets.delete(socket));
  }
}
