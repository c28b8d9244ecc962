// Sockets that see the packets of a trace in one network namespace: at every link, and at the end of all rules.
//
// A packet socket has a copy of what every link receives and sends. A raw socket has one of what the kernel delivers to the
// namespace itself, behind its last chain (raw_local_deliver in net/ipv4/raw.c).
import { AF_PACKET } from '../frames.js';
import {
  AF_INET,
  AF_INET6,
  attachFilter,
  bindSocket,
  closeAside,
  closeFd,
  openSocket,
  openSocketOf,
  receiveFrom,
  receiveWithAddress,
  SOCK_DGRAM,
  SystemError,
} from '../libc.js';
import { IP_HEADER, protocolNumber, type TraceFilter } from './probe.js';
import { decodeSeen, decodeWhole, filterProgram, SNAP_BYTES, type SeenPacket } from './sighting.js';

// include/uapi/linux/if_ether.h, if_packet.h: every protocol; struct sockaddr_ll; a packet that a link sends.
const ETH_P_ALL = 3;
const SOCKADDR_LL_BYTES = 20;
const PACKET_OUTGOING = 4;
/** Received, and addressed to another MAC address. */
const PACKET_OTHERHOST = 3;
/** Packets that are read at a time, at most. */
const MOST_READ = 256;

/** A packet of the trace at a point of the namespace. */
export interface Sighting extends SeenPacket {
  /** Index of the link; 0: it was delivered to the namespace itself. */
  link: number;
  /** Sent by the link, and not received. */
  out: boolean;
  /** Received, and addressed to another MAC address than the link's. */
  passing: boolean;
}

export class Taps {
  readonly #packets: number;
  readonly #delivered: number;
  readonly #filter: TraceFilter;
  readonly #buffer = Buffer.alloc(SNAP_BYTES);
  readonly #address = Buffer.alloc(SOCKADDR_LL_BYTES + 8);

  /** Opens them in the namespace of the caller. @throws SystemError */
  constructor(filter: TraceFilter) {
    this.#filter = filter;
    this.#packets = openPacketSocket(filter);
    try {
      this.#delivered = openRawSocket(filter);
    } catch (error) {
      closeAside(this.#packets);
      throw error;
    }
  }

  /** What has come since the last call, in order. */
  read(): Sighting[] {
    return [...this.#readPackets(), ...this.#readDelivered()];
  }

  *#readPackets(): Generator<Sighting> {
    for (let i = 0; i < MOST_READ; i++) {
      const length = tolerant(() => receiveWithAddress(this.#packets, this.#buffer, this.#address));
      if (length === undefined) return;
      const seen = decodeSeen(this.#buffer.subarray(0, length), this.#filter);
      if (seen === undefined) continue;
      const type = this.#address.readUInt8(10);
      const [out, passing] = [type === PACKET_OUTGOING, type === PACKET_OTHERHOST];
      yield { ...seen, link: this.#address.readInt32LE(4), out, passing };
    }
  }

  *#readDelivered(): Generator<Sighting> {
    const { family } = this.#filter;
    for (let i = 0; i < MOST_READ; i++) {
      const length = tolerant(() => receiveWithAddress(this.#delivered, this.#buffer, this.#address));
      if (length === undefined) return;
      const bytes = this.#buffer.subarray(0, length);
      const packet = family === 4 ? bytes : Buffer.concat([this.#ipv6Header(), bytes]);
      // What a tunnel carries is delivered to the tunnel.
      const seen = decodeWhole(packet, this.#filter);
      if (seen !== undefined) yield { ...seen, link: 0, out: false, passing: false };
    }
  }

  /** A raw socket of IPv6 shows none: of what was in it only the sender is known. */
  #ipv6Header(): Buffer {
    const header = Buffer.alloc(IP_HEADER[6]);
    header.writeUInt8(6 << 4, 0);
    header.writeUInt8(protocolNumber(this.#filter), 6);
    this.#address.copy(header, 8, 8, 24);
    return header;
  }

  close(): void {
    closeAside(this.#packets);
    closeFd(this.#delivered);
  }
}

/** A link that is set down while the socket is open is an error of the socket, and no end of it. */
function tolerant(receive: () => number | undefined): number | undefined {
  try {
    return receive();
  } catch (error) {
    if (error instanceof SystemError) return undefined;
    throw error;
  }
}

/** Cooked (SOCK_DGRAM): packets begin with the IP header on every kind of link. */
function openPacketSocket(filter: TraceFilter): number {
  // Without a protocol nothing is received before the filter is there.
  const fd = openSocketOf(AF_PACKET, SOCK_DGRAM);
  try {
    attachFilter(fd, filterProgram(filter));
    const everywhere = Buffer.alloc(SOCKADDR_LL_BYTES);
    everywhere.writeUInt16LE(AF_PACKET, 0);
    everywhere.writeUInt16BE(ETH_P_ALL, 2);
    bindSocket(fd, everywhere);
    return fd;
  } catch (error) {
    closeAside(fd);
    throw error;
  }
}

function openRawSocket(filter: TraceFilter): number {
  const { family } = filter;
  const fd = openSocket(family === 4 ? AF_INET : AF_INET6, protocolNumber(filter));
  try {
    attachFilter(fd, filterProgram(filter, family === 4 ? 0 : IP_HEADER[6]));
    // What came before the filter.
    const passed = Buffer.alloc(1);
    for (let i = 0; i < MOST_READ && receiveFrom(fd, passed) !== undefined; i++);
    return fd;
  } catch (error) {
    closeFd(fd);
    throw error;
  }
}
