// Both ends of a traffic meter, run inside containers.
//
// `serve IP PORT` echoes; `measure SOCKET IP PORT` sends a ping every 10 ms, keeps one TCP stream going and opens a new
// connection every 100 ms, and reports on a unix socket. All times are of the machine's monotonic clock, so that a test can
// compare them with its own.
import { createConnection, createServer, type Socket } from 'node:net';

import { AF_INET, openSocket, receiveFrom, sendTo, setOption } from '../../agent/kernel/libc.js';

const PING_MS = 10;
const CONNECT_MS = 100;
/** Milliseconds after which an unanswered ping is lost; a round trip in these labs takes less than one. */
const LOST_MS = 1000;
/** Milliseconds within which a ping counts as in flight. */
const IN_FLIGHT_MS = 30;

/** Milliseconds of the machine's monotonic clock, the same in every process. */
export const monotonic = (): number => Number(process.hrtime.bigint()) / 1e6;

export interface MeterReport {
  /** When it was made. */
  at: number;
  sent: number;
  answered: number;
  /** Pings unanswered for a second. */
  lost: number;
  /** Pings unanswered for longer than usual, and not yet lost. */
  open: number;
  /** The longest run of lost pings, in milliseconds: from the first lost to the first answered again. */
  outageMs: number;
  /** When the first ping was sent that was answered; undefined where none was. */
  firstAnswered: number | undefined;
  stream: { echoed: number; broken: string | undefined; longestMs: number };
  connections: { made: number; failed: number; firstMade: number | undefined };
}

class Pings {
  readonly #sentAt: number[] = [];
  readonly #answered: boolean[] = [];
  readonly #fd: number;
  readonly #to = Buffer.alloc(16);
  readonly #buffer = Buffer.alloc(2048);
  readonly #id = process.pid & 0xffff;

  constructor(ip: string) {
    this.#fd = openSocket(AF_INET, 1);
    // Only echo replies (ICMP_FILTER: a bit that is set keeps a type out).
    const filter = Buffer.alloc(4);
    filter.writeUInt32LE(~1 >>> 0);
    setOption(this.#fd, 255, 1, filter);
    this.#to.writeUInt16LE(AF_INET, 0);
    for (const [i, part] of ip.split('.').entries()) this.#to.writeUInt8(Number(part), 4 + i);
  }

  tick(): void {
    this.collect();
    const number = this.#sentAt.length;
    const packet = Buffer.alloc(64);
    packet.writeUInt8(8, 0);
    packet.writeUInt16BE(this.#id, 4);
    packet.writeUInt16BE(number & 0xffff, 6);
    packet.writeUInt32BE(number, 8);
    packet.writeUInt16BE(checksum(packet), 2);
    this.#sentAt.push(monotonic());
    this.#answered.push(false);
    try {
      sendTo(this.#fd, packet, this.#to);
    } catch {
      // No route: lost.
    }
  }

  collect(): void {
    for (;;) {
      let length: number | undefined;
      try {
        length = receiveFrom(this.#fd, this.#buffer);
      } catch {
        continue;
      }
      if (length === undefined) return;
      const start = (this.#buffer.readUInt8(0) & 0x0f) * 4;
      if (length < start + 12 || this.#buffer.readUInt16BE(start + 4) !== this.#id) continue;
      const number = this.#buffer.readUInt32BE(start + 8);
      if (number < this.#answered.length) this.#answered[number] = true;
    }
  }

  report(
    from: number,
  ): Pick<MeterReport, 'sent' | 'answered' | 'lost' | 'open' | 'outageMs' | 'firstAnswered'> {
    const now = monotonic();
    const sums = { sent: 0, answered: 0, lost: 0, open: 0, outageMs: 0 };
    let firstAnswered: number | undefined;
    let since: number | undefined;
    for (const [i, sentAt] of this.#sentAt.entries()) {
      const answered = this.#answered[i] === true;
      if (sentAt < from || (!answered && sentAt > now - IN_FLIGHT_MS)) continue;
      sums.sent++;
      if (answered) {
        sums.answered++;
        firstAnswered ??= sentAt;
        if (since !== undefined) sums.outageMs = Math.max(sums.outageMs, sentAt - since);
        since = undefined;
      } else if (sentAt < now - LOST_MS) {
        sums.lost++;
        since ??= sentAt;
      } else {
        sums.open++;
      }
    }
    if (since !== undefined) sums.outageMs = Math.max(sums.outageMs, now - since);
    return { ...sums, firstAnswered };
  }
}

/** RFC 1071. */
function checksum(packet: Buffer): number {
  let sum = 0;
  for (let i = 0; i < packet.length; i += 2) sum += packet.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}

/** One connection for the whole time: every number sent must come back, in order. */
class Stream {
  readonly #socket: Socket;
  readonly #echoes: number[] = [];
  #next = 0;
  #rest = Buffer.alloc(0);
  #broken: string | undefined;

  constructor(host: string, port: number) {
    this.#socket = createConnection({ host, port, noDelay: true });
    this.#socket.on('error', (error) => (this.#broken ??= error.message));
    this.#socket.on('close', () => (this.#broken ??= 'closed'));
    this.#socket.on('data', (data) => this.#receive(data));
  }

  tick(): void {
    if (this.#broken !== undefined || this.#socket.writableLength > 1 << 20) return;
    const record = Buffer.alloc(64);
    record.writeUInt32BE(this.#next++, 0);
    this.#socket.write(record);
  }

  #receive(data: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, data]);
    for (; this.#rest.length >= 64; this.#rest = this.#rest.subarray(64)) {
      if (this.#rest.readUInt32BE(0) !== this.#echoes.length) this.#broken ??= 'an echo out of order';
      this.#echoes.push(monotonic());
    }
  }

  report(from: number): MeterReport['stream'] {
    const times = this.#echoes.filter((at) => at >= from);
    const longestMs = times.reduce((longest, at, i) => Math.max(longest, at - (times[i - 1] ?? from)), 0);
    return { echoed: times.length, broken: this.#broken, longestMs };
  }
}

class Connections {
  readonly #attempts: { began: number; made?: number; failed?: boolean }[] = [];

  constructor(
    private readonly host: string,
    private readonly port: number,
  ) {}

  tick(): void {
    const attempt: { began: number; made?: number; failed?: boolean } = { began: monotonic() };
    this.#attempts.push(attempt);
    const socket = createConnection({ host: this.host, port: this.port, noDelay: true });
    const fail = (): void => {
      if (attempt.made === undefined) attempt.failed = true;
      socket.destroy();
    };
    const timer = setTimeout(fail, LOST_MS);
    socket.on('error', fail);
    socket.on('connect', () => void socket.write('x'));
    socket.on('data', () => {
      attempt.made ??= monotonic();
      // Reset, so that thousands of them leave nothing in TIME_WAIT.
      socket.resetAndDestroy();
    });
    socket.on('close', () => clearTimeout(timer));
  }

  report(from: number): MeterReport['connections'] {
    const all = this.#attempts.filter(({ began }) => began >= from);
    const made = all.flatMap((attempt) => attempt.made ?? []);
    return {
      made: made.length,
      failed: all.filter(({ failed }) => failed === true).length,
      firstMade: made.length === 0 ? undefined : Math.min(...made),
    };
  }
}

function measure(path: string, ip: string, port: number): void {
  const pings = new Pings(ip);
  const stream = new Stream(ip, port);
  const connections = new Connections(ip, port);
  setInterval(() => {
    pings.tick();
    stream.tick();
  }, PING_MS);
  setInterval(() => connections.tick(), CONNECT_MS);
  createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', (text) => {
      const { from } = JSON.parse(text.toString()) as { from: number };
      pings.collect();
      const report: MeterReport = {
        at: monotonic(),
        ...pings.report(from),
        stream: stream.report(from),
        connections: connections.report(from),
      };
      socket.end(JSON.stringify(report));
    });
  }).listen(path);
}

function serve(host: string, port: number): void {
  createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => undefined);
    socket.pipe(socket);
  }).listen({ host, port, backlog: 511 }, () => console.log('listening'));
}

const [what, ...args] = process.argv.slice(2);
if (what === 'serve') serve(args[0] ?? '', Number(args[1]));
if (what === 'measure') measure(args[0] ?? '', args[1] ?? '', Number(args[2]));
