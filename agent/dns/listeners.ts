// Sockets on port 53: UDP and TCP for every gateway address.
//
// They are opened once the address exists and survive its removal and return. If another program holds the port, that is a
// problem, and opening is retried.
import { createSocket, type Socket } from 'node:dgram';
import { createServer, type Server, type Socket as Connection } from 'node:net';

import { messageOf } from '../../core/errors.js';
import { Mutex } from '../../core/keyed-mutex.js';
import { errnoOf } from '../../daemon/errno.js';
import type { Logger } from '../../daemon/log.js';
import { byWhom } from '../../daemon/port-owner.js';
import { enlargeReceiveBuffer } from '../kernel/index.js';
import { DNS, type Problem, type ProblemKey, type Problems } from '../health/index.js';
import { framed, isIp6 } from './exchange.js';
import type { Transport } from './message.js';
import { QUERY_WAIT_MS, QueryRate } from './query-rate.js';

export type Handler = (
  message: Buffer,
  ip: string,
  transport: Transport,
) => Buffer | Promise<Buffer> | undefined;

export interface ListenersOptions {
  handle: Handler;
  log: Logger;
  problems: Problems;
  port?: number;
}

export const DNS_PORT = 53;
/** Holds one second of 10,000 queries, with the kernel's overhead for each. */
const RECEIVE_BUFFER = 16 * 1024 * 1024;
/** The address appears with the bridge, after a moment; an IPv6 address must pass duplicate address detection first. */
const RETRY_MS = 200;
const IDLE_MS = 10_000;
const MAX_CONNECTIONS = 256;
const MAX_CONNECTIONS_OF_ONE = 32;
/** Concurrent queries of one connection; further ones wait in the kernel. */
const MAX_PIPELINED = 32;
const MAX_UNREAD_BYTES = 256 * 1024;

interface Place {
  /** For whom, as displayed. */
  about: string;
  udp?: Socket;
  tcp?: Server;
}

export class Listeners {
  readonly #places = new Map<string, Place>();
  readonly #connections = new Map<Connection, string>();
  readonly #rate = new QueryRate();
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;
  /** One attempt after the other. */
  readonly #opening = new Mutex();

  constructor(private readonly options: ListenersOptions) {}

  /** Listens at exactly these addresses. @param wanted for whom (`network blue`), by address */
  ensure(wanted: ReadonlyMap<string, string>): void {
    for (const [ip, place] of this.#places) {
      if (wanted.has(ip)) continue;
      this.#places.delete(ip);
      this.#close(place);
      for (const transport of ['udp', 'tcp']) this.options.problems.clear(problemKey(ip, transport));
    }
    for (const [ip, about] of wanted) {
      if (!this.#places.has(ip)) this.#places.set(ip, { about });
    }
    this.#open();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#retry);
    await this.#opening.idle();
    for (const place of this.#places.values()) this.#close(place);
    for (const connection of this.#connections.keys()) connection.destroy();
    this.#places.clear();
  }

  #open(): void {
    void this.#opening.run(() => this.#openMissing());
  }

  async #openMissing(): Promise<void> {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    let missing = false;
    for (const [ip, place] of [...this.#places]) {
      for (const transport of ['udp', 'tcp'] as const) {
        if (this.#stopped) return;
        if (place[transport] !== undefined || this.#places.get(ip) !== place) continue;
        missing = !(await this.#try(ip, place, transport)) || missing;
      }
    }
    if (missing && !this.#stopped) this.#retry = setTimeout(() => this.#open(), RETRY_MS);
  }

  async #try(ip: string, place: Place, transport: Transport): Promise<boolean> {
    const key = problemKey(ip, transport);
    try {
      if (transport === 'udp') place.udp = await this.#listenUdp(ip);
      else place.tcp = await this.#listenTcp(ip);
      this.options.problems.clear(key);
      if (this.#places.get(ip) !== place) this.#close(place);
      return true;
    } catch (error) {
      // The bridge does not exist yet; the reconciler reports it if that lasts.
      if (errnoOf(error) !== 'EADDRNOTAVAIL')
        this.options.problems.set(key, await this.#explain(error, ip, place, transport));
      return false;
    }
  }

  async #explain(error: unknown, ip: string, { about }: Place, transport: Transport): Promise<Problem> {
    const port = this.options.port ?? DNS_PORT;
    const taken = errnoOf(error) === 'EADDRINUSE';
    const owner = taken ? await byWhom(ip, port, transport) : '';
    return {
      what: `DNS on ${about}`,
      why: taken
        ? `${transport.toUpperCase()} port ${port} of ${ip} is taken${owner}`
        : `port ${port} of ${ip} cannot be opened: ${messageOf(error)}`,
      fix: taken
        ? 'Have that program listen on its own addresses only (dnsmasq: bind-interfaces), or turn DNS off with --dns off.'
        : 'It is tried again automatically.',
    };
  }

  #listenUdp(ip: string): Promise<Socket> {
    const { log, port = DNS_PORT } = this.options;
    const type = isIp6(ip) ? 'udp6' : 'udp4';
    // Destinations are addresses already: looking them up would delay every answer.
    const socket = createSocket({
      type,
      ipv6Only: type === 'udp6',
      lookup: (host, _options, done) => done(null, host, type === 'udp6' ? 6 : 4),
    });
    return new Promise((resolve, reject) => {
      const failed = (error: Error): void => {
        socket.close();
        reject(error);
      };
      socket.once('error', failed);
      socket.bind({ address: ip, port, exclusive: true }, () => {
        socket.off('error', failed);
        socket.on('error', (error) => log.debug('a DNS socket failed', { ip, error: messageOf(error) }));
        socket.on('message', (message, from) => this.#receive(socket, message, from.address, from.port));
        if (!enlargeReceiveBuffer(ip, port, RECEIVE_BUFFER))
          log.debug('cannot enlarge the receive buffer', { ip });
        resolve(socket);
      });
    });
  }

  #receive(socket: Socket, message: Buffer, ip: string, port: number): void {
    // No answer can be sent to port 0, which only a forged packet comes from.
    if (port === 0) return;
    const send = (answer: Buffer): void => {
      try {
        // A failure to send (to a container that has just ended) equals a lost packet.
        socket.send(answer, port, ip, ignore);
      } catch (error) {
        this.options.log.debug('an answer could not be sent', { ip, error: messageOf(error) });
      }
    };
    const answer = this.#answer(message, ip, 'udp');
    if (answer === undefined) return;
    if (Buffer.isBuffer(answer)) send(answer);
    else void answer.then((late) => late && send(late));
  }

  /** An exception while a message is handled costs that message alone. */
  #answer(
    message: Buffer,
    ip: string,
    transport: Transport,
  ): Buffer | Promise<Buffer | undefined> | undefined {
    const failed = (error: unknown): undefined => {
      this.options.log.error('a query could not be answered', { ip, error: messageOf(error) });
      return undefined;
    };
    try {
      const answer = this.options.handle(message, ip, transport);
      return answer instanceof Promise ? answer.catch(failed) : answer;
    } catch (error) {
      return failed(error);
    }
  }

  #listenTcp(ip: string): Promise<Server> {
    const { log, port = DNS_PORT } = this.options;
    const server = createServer((connection) => this.#serve(connection));
    server.maxConnections = MAX_CONNECTIONS;
    return new Promise((resolve, reject) => {
      server.once('error', reject);
      server.listen({ host: ip, port, exclusive: true, ipv6Only: isIp6(ip) }, () => {
        server.off('error', reject);
        server.on('error', (error) => log.debug('a DNS socket failed', { ip, error: messageOf(error) }));
        resolve(server);
      });
    });
  }

  #serve(connection: Connection): void {
    const ip = connection.remoteAddress ?? '';
    const others = [...this.#connections.values()].filter((other) => other === ip).length;
    connection.on('error', () => undefined);
    if (others >= MAX_CONNECTIONS_OF_ONE) {
      connection.destroy();
      return;
    }
    this.#connections.set(connection, ip);
    let tooFast: NodeJS.Timeout | undefined;
    connection.on('close', () => {
      clearTimeout(tooFast);
      this.#connections.delete(connection);
    });
    connection.setTimeout(IDLE_MS, () => connection.destroy());
    let waiting: Buffer = Buffer.alloc(0);
    let open = 0;
    const work = (): void => {
      while (waiting.length >= 2 && open < MAX_PIPELINED && tooFast === undefined) {
        const end = 2 + waiting.readUInt16BE(0);
        if (waiting.length < end) break;
        if (!this.#rate.take(ip)) {
          tooFast = setTimeout(() => {
            tooFast = undefined;
            connection.resume();
            work();
          }, QUERY_WAIT_MS);
          break;
        }
        const message = Buffer.from(waiting.subarray(2, end));
        waiting = waiting.subarray(end);
        open++;
        void Promise.resolve(this.#answer(message, ip, 'tcp')).then((answer) => {
          open--;
          // RFC 7766 §6.2.3: anything but a query ends the connection.
          if (answer === undefined) connection.destroy();
          else if (connection.writable) connection.write(framed(answer));
          // No answers are buffered for a client that keeps sending and does not read.
          if (connection.writableLength > MAX_UNREAD_BYTES) connection.destroy();
          if (tooFast === undefined) connection.resume();
          work();
        });
      }
      if (open >= MAX_PIPELINED || tooFast !== undefined) connection.pause();
    };
    connection.on('data', (chunk: Buffer) => {
      waiting = waiting.length === 0 ? chunk : Buffer.concat([waiting, chunk]);
      work();
    });
  }

  #close(place: Place): void {
    place.udp?.close();
    place.tcp?.close();
    delete place.udp;
    delete place.tcp;
  }
}

const ignore = (): void => undefined;
const problemKey = (ip: string, transport: string): ProblemKey => ({
  scope: DNS,
  kind: 'listener',
  id: `${transport} ${ip}`,
});
