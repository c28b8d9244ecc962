// The sockets on port 53, one of UDP and one of TCP for every gateway address. They are made when the address is there, and
// serve on when it goes and comes back; where another program has the port that is told, and tried again.
import { createSocket, type Socket } from 'node:dgram';
import { createServer, isIPv6, type Server, type Socket as Connection } from 'node:net';

import { messageOf } from '../../core/errors.js';
import { Mutex } from '../../core/keyed-mutex.js';
import { errnoOf } from '../../daemon/errno.js';
import type { Logger } from '../../daemon/log.js';
import { byWhom } from '../../daemon/port-owner.js';
import { enlargeReceiveBuffer } from '../kernel/index.js';
import { DNS, type Problem, type ProblemKey, type Problems } from '../health/index.js';
import { framed } from './exchange.js';
import type { Transport } from './message.js';

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
/** A second of 10,000 questions a second, with what the kernel counts for each. */
const RECEIVE_BUFFER = 16 * 1024 * 1024;
/** The address comes with the bridge, which takes a moment; IPv6 ones have to prove themselves first. */
const RETRY_MS = 200;
const IDLE_MS = 10_000;
const MAX_CONNECTIONS = 256;
const MAX_CONNECTIONS_OF_ONE = 32;
/** Questions of one connection that are being answered; what comes beyond waits in the kernel. */
const MAX_PIPELINED = 32;
const MAX_UNREAD_BYTES = 256 * 1024;

interface Place {
  network: string;
  udp?: Socket;
  tcp?: Server;
}

export class Listeners {
  readonly #places = new Map<string, Place>();
  readonly #connections = new Map<Connection, string>();
  #retry: NodeJS.Timeout | undefined;
  #stopped = false;
  /** One attempt after the other. */
  readonly #opening = new Mutex();

  constructor(private readonly options: ListenersOptions) {}

  /** Listens at exactly these addresses. @param wanted networks by gateway address */
  ensure(wanted: ReadonlyMap<string, string>): void {
    for (const [ip, place] of this.#places) {
      if (wanted.has(ip)) continue;
      this.#places.delete(ip);
      this.#close(place);
      for (const transport of ['udp', 'tcp']) this.options.problems.clear(problemKey(ip, transport));
    }
    for (const [ip, network] of wanted) {
      if (!this.#places.has(ip)) this.#places.set(ip, { network });
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
      // The bridge is not there yet: that is told elsewhere if it stays so.
      if (errnoOf(error) !== 'EADDRNOTAVAIL')
        this.options.problems.set(key, await this.#explain(error, ip, place, transport));
      return false;
    }
  }

  async #explain(error: unknown, ip: string, { network }: Place, transport: Transport): Promise<Problem> {
    const port = this.options.port ?? DNS_PORT;
    const taken = errnoOf(error) === 'EADDRINUSE';
    const owner = taken ? await byWhom(ip, port, transport) : '';
    return {
      what: `names on network ${network}`,
      why: taken
        ? `${transport.toUpperCase()} port ${port} of ${ip} is taken${owner}`
        : `port ${port} of ${ip} cannot be listened on: ${messageOf(error)}`,
      fix: taken
        ? 'Have that program listen on addresses of its own, not on every one (dnsmasq: bind-interfaces), or turn names off with --dns off.'
        : 'It is tried again by itself.',
    };
  }

  #listenUdp(ip: string): Promise<Socket> {
    const { log, port = DNS_PORT } = this.options;
    const type = isIPv6(ip) ? 'udp6' : 'udp4';
    // The addresses to send to are addresses already: looking them up would put every answer off.
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
        socket.on('error', (error) => log.debug('a socket of names', { ip, error: messageOf(error) }));
        socket.on('message', (message, from) => this.#receive(socket, message, from.address, from.port));
        if (!enlargeReceiveBuffer(ip, port, RECEIVE_BUFFER))
          log.debug('the receive buffer stays small', { ip });
        resolve(socket);
      });
    });
  }

  #receive(socket: Socket, message: Buffer, ip: string, port: number): void {
    // Nobody can be answered at port 0, which only a forged packet comes from.
    if (port === 0) return;
    const send = (answer: Buffer): void => {
      try {
        // That it could not be sent (a container that has just gone) is the same as that it was lost.
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

  /** Whatever a message does to the code behind: it costs itself alone. */
  #answer(
    message: Buffer,
    ip: string,
    transport: Transport,
  ): Buffer | Promise<Buffer | undefined> | undefined {
    const failed = (error: unknown): undefined => {
      this.options.log.error('a question could not be answered', { ip, error: messageOf(error) });
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
      server.listen({ host: ip, port, exclusive: true, ipv6Only: isIPv6(ip) }, () => {
        server.off('error', reject);
        server.on('error', (error) => log.debug('a socket of names', { ip, error: messageOf(error) }));
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
    connection.on('close', () => this.#connections.delete(connection));
    connection.setTimeout(IDLE_MS, () => connection.destroy());
    let waiting: Buffer = Buffer.alloc(0);
    let open = 0;
    const work = (): void => {
      while (waiting.length >= 2 && open < MAX_PIPELINED) {
        const end = 2 + waiting.readUInt16BE(0);
        if (waiting.length < end) break;
        const message = Buffer.from(waiting.subarray(2, end));
        waiting = waiting.subarray(end);
        open++;
        void Promise.resolve(this.#answer(message, ip, 'tcp')).then((answer) => {
          open--;
          // RFC 7766 §6.2.3: what is no question ends the connection.
          if (answer === undefined) connection.destroy();
          else if (connection.writable) connection.write(framed(answer));
          // Who asks on and on and reads no answers has them kept nowhere.
          if (connection.writableLength > MAX_UNREAD_BYTES) connection.destroy();
          connection.resume();
          work();
        });
      }
      if (open >= MAX_PIPELINED) connection.pause();
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
