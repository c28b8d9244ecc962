// The listener in front of a gRPC server: TLS and plain text on one port, certificates that change, and bounds.
//
// The first byte tells TLS from plain text. TLS is ended here, so that a certificate can be replaced, a handshake has a
// deadline, and a client may come without a certificate to ask for one; what it may do is decided for each call.
import { createServer, isIP, type Server as NetServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:tls';

import { ServerCredentials, type Server } from '@grpc/grpc-js';

import { Counts } from './counts.js';
import type { HostPort } from './kinds.js';
import { explainListenError } from './port-owner.js';
import type { Tls } from './tls.js';

/** RFC 8446 §5.1: the content type of a handshake record. */
export const HANDSHAKE = 0x16;
/** How long a client may take for its first byte, and then for the handshake. */
export const SILENCE_MS = 5000;
const HANDSHAKE_MS = 10_000;
/** Connections of one address, and of all together: an agent and a command have one each. */
const MOST_OF_ADDRESS = 256;
const MOST = 4096;
/** Connections by TLS without a certificate of the CA, which are there to ask for one. */
const MOST_STRANGERS = 256;
const MOST_STRANGERS_OF_ADDRESS = 16;
const STRANGER_MS = 30_000;

export interface FrontOptions {
  /** Undefined: plain text alone. */
  tls: Tls | undefined;
  /** Refuse clients without a certificate of the CA; otherwise each call is decided by itself. */
  requireCertificate: boolean;
  /** Serve plain text, too. */
  plain: boolean;
}

export class GrpcFront {
  readonly #inject: (socket: Socket) => void;
  readonly #front: NetServer;
  readonly #options: FrontOptions;
  /** Connections that gRPC does not have yet. */
  readonly #pending = new Set<Socket>();
  /** Connections in plain text, by the address and port of their other end. */
  readonly #plain = new Map<string, Socket>();
  readonly #secure = new Set<Socket>();
  readonly #connections = new Counts();
  readonly #strangers = new Counts();
  #tls: TlsServer | undefined;

  constructor(server: Server, options: FrontOptions) {
    const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
    this.#inject = (socket) => injector.injectConnection(socket);
    this.#options = { ...options };
    this.replace(options.tls);
    this.#front = createServer((socket) => this.#accept(socket));
  }

  /** @returns the bound address. @throws WeftError FAILED_PRECONDITION that names the owner of the address */
  async listen(listen: HostPort): Promise<string> {
    const port = await new Promise<number>((resolve, reject) => {
      this.#front.once('error', reject);
      this.#front.listen({ host: listen.host, port: listen.port }, () => {
        this.#front.off('error', reject);
        const address = this.#front.address();
        resolve(typeof address === 'object' && address !== null ? address.port : listen.port);
      });
    }).catch(async (error: unknown) => {
      throw await explainListenError(error, '--listen', listen);
    });
    return listen.text.replace(/\d+$/, String(port));
  }

  /** From now on connections are served with these; those that are there keep theirs. */
  replace(tls: Tls | undefined): void {
    this.#options.tls = tls;
    if (tls === undefined) return;
    const context = { ca: tls.ca, cert: tls.cert, key: tls.key };
    if (this.#tls !== undefined) return this.#tls.setSecureContext(context);
    this.#tls = createTlsServer(
      {
        ...context,
        ALPNProtocols: ['h2'],
        requestCert: true,
        rejectUnauthorized: this.#options.requireCertificate,
        handshakeTimeout: HANDSHAKE_MS,
      },
      (socket) => {
        socket.on('error', () => undefined);
        if (!socket.authorized && !this.#admitStranger(socket)) return;
        this.#secure.add(socket);
        socket.once('close', () => this.#secure.delete(socket));
        this.#inject(socket);
      },
    );
    this.#tls.on('tlsClientError', (_error, socket) => socket.destroy());
  }

  /** Whether plain text is served from now on; where not, the plain connections that are there are ended. */
  servePlain(plain: boolean): void {
    this.#options.plain = plain;
    if (!plain) for (const socket of this.#plain.values()) socket.destroy();
  }

  /** Ends every connection that came by TLS: it may be of a CA that is not trusted any more. */
  disconnectTls(): void {
    for (const socket of this.#secure) socket.destroy();
  }

  /** @param peer as gRPC names it */
  isPlain(peer: string): boolean {
    return this.#plain.has(peer);
  }

  close(): void {
    this.#front.close();
    for (const socket of this.#pending) socket.destroy();
  }

  #admitStranger(socket: Socket): boolean {
    const address = socket.remoteAddress ?? '';
    // On loopback everybody is one address.
    const most = isLoopback(address) ? MOST_STRANGERS : MOST_STRANGERS_OF_ADDRESS;
    if (this.#strangers.of(address) >= most || this.#strangers.all >= MOST_STRANGERS) {
      socket.destroy();
      return false;
    }
    this.#strangers.add(address, 1);
    const over = setTimeout(() => socket.destroy(), STRANGER_MS);
    socket.once('close', () => {
      clearTimeout(over);
      this.#strangers.add(address, -1);
    });
    return true;
  }

  #accept(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const peer = peerOf(socket);
    // On loopback everybody is one address.
    const most = isLoopback(address) ? MOST : MOST_OF_ADDRESS;
    if (this.#connections.of(address) >= most || this.#connections.all >= MOST) return void socket.destroy();
    this.#connections.add(address, 1);
    this.#pending.add(socket);
    const silent = setTimeout(() => socket.destroy(), SILENCE_MS);
    socket.on('error', () => undefined);
    socket.once('close', () => {
      clearTimeout(silent);
      this.#connections.add(address, -1);
      this.#pending.delete(socket);
      this.#plain.delete(peer);
    });
    socket.once('readable', () => {
      clearTimeout(silent);
      this.#sort(socket, peer);
    });
  }

  #sort(socket: Socket, peer: string): void {
    const first = socket.read(1) as Buffer | null;
    if (first === null) return void socket.destroy();
    socket.unshift(first);
    if (startsTls(first) && this.#tls !== undefined) {
      // The handshake has a deadline of its own.
      this.#pending.delete(socket);
      this.#tls.emit('connection', socket);
    } else if (this.#options.plain) {
      this.#plain.set(peer, socket);
      this.#pending.delete(socket);
      this.#inject(socket);
    } else socket.destroy();
  }
}

/** Whether a connection that begins with these bytes is TLS. */
export const startsTls = (bytes: Buffer): boolean => bytes[0] === HANDSHAKE;

/** As grpc-js has it. */
const peerOf = ({ remoteAddress = '', remotePort = 0 }: Socket): string => `${remoteAddress}:${remotePort}`;

/** Of this host, by IPv4 or IPv6. */
export const isLoopback = (address: string): boolean =>
  isIP(address) !== 0 && /^(?:::ffff:)?127\.|^::1$/.test(address);
