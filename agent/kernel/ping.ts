// Round-trip times by ICMP echo (RFC 792). The kernel stamps the answers as they come in, so reading them late costs no
// accuracy, and nothing waits in a loop.
import { IpAddress } from '../../core/address.js';
import { AF_INET, bindSocket, closeFd, openSocket, receivedAt, receiveFrom, sendTo, setOption, wallClock } from './libc.js';

const IPPROTO_ICMP = 1;
const SOL_RAW = 255;
const ICMP_FILTER = 1;
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;
const PACKET = 56;
/** When answers are looked for, in milliseconds after the questions. */
const LOOKS = [2, 10, 30, 80, 200, 400];

export class Pinger {
  #fd: number | undefined;
  #sequence = 0;
  readonly #id = process.pid & 0xffff;
  readonly #buffer = Buffer.alloc(2048);

  async ping(ips: readonly string[], timeoutMs: number): Promise<(number | undefined)[]> {
    const fd = this.#open();
    const results = Array.from<number | undefined>({ length: ips.length });
    const open = new Map<number, { at: number; sent: bigint }>();
    while (receiveFrom(fd, this.#buffer) !== undefined) continue;
    for (const [at, ip] of ips.entries()) {
      const sequence = (this.#sequence = (this.#sequence + 1) & 0xffff);
      try {
        const sent = wallClock();
        sendTo(fd, echo(this.#id, sequence), address(ip));
        open.set(sequence, { at, sent });
      } catch {
        // No way there at all: as good as no answer.
      }
    }
    let waited = 0;
    for (const look of [...LOOKS.filter((ms) => ms < timeoutMs), timeoutMs]) {
      if (open.size === 0) break;
      const pause = look - waited;
      waited = look;
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (this.#fd === undefined) break;
      this.#collect(fd, open, results);
    }
    return results;
  }

  #collect(fd: number, open: Map<number, { at: number; sent: bigint }>, results: (number | undefined)[]): void {
    for (;;) {
      const length = receiveFrom(fd, this.#buffer);
      if (length === undefined) return;
      // A raw socket of IPv4 hands the IP header out, too.
      const start = (this.#buffer.readUInt8(0) & 0x0f) * 4;
      if (length < start + 8 || this.#buffer.readUInt8(start) !== ECHO_REPLY) continue;
      if (this.#buffer.readUInt16BE(start + 4) !== this.#id) continue;
      const asked = open.get(this.#buffer.readUInt16BE(start + 6));
      if (asked === undefined) continue;
      open.delete(this.#buffer.readUInt16BE(start + 6));
      const received = receivedAt(fd) ?? wallClock();
      results[asked.at] = Math.max(0, Number(received - asked.sent) / 1e6);
    }
  }

  #open(): number {
    if (this.#fd !== undefined) return this.#fd;
    const fd = openSocket(AF_INET, IPPROTO_ICMP);
    // Everything but echo replies stays in the kernel.
    const filter = Buffer.alloc(4);
    filter.writeUInt32LE(~(1 << ECHO_REPLY) >>> 0);
    setOption(fd, SOL_RAW, ICMP_FILTER, filter);
    bindSocket(fd, address('0.0.0.0'));
    // The first call turns stamping on.
    receivedAt(fd);
    this.#fd = fd;
    return fd;
  }

  close(): void {
    if (this.#fd !== undefined) closeFd(this.#fd);
    this.#fd = undefined;
  }
}

function address(ip: string): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.set(IpAddress.parse(ip).toBytes(), 4);
  return bytes;
}

function echo(id: number, sequence: number): Buffer {
  const bytes = Buffer.alloc(PACKET);
  bytes.writeUInt8(ECHO_REQUEST, 0);
  bytes.writeUInt16BE(id, 4);
  bytes.writeUInt16BE(sequence, 6);
  bytes.writeUInt16BE(checksum(bytes), 2);
  return bytes;
}

/** RFC 1071. */
function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
