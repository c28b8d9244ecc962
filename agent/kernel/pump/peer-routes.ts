// Keeps the peers' prefixes as the kernel's table of them is (objects/pump.ts).
import { WEFT_MARK } from '../../../core/objects/index.js';
import { AF_INET, AF_NETLINK, bindSocket, openSocket, receiveFrom, SystemError } from '../libc.js';
import { decodeAttrs, decodeMessages, RTM } from '../netlink-message.js';
import { NetlinkSocket } from '../netlink-socket.js';
import { dumpRoutes } from '../objects/route.js';
import type { Prefixes } from './prefixes.js';

const NETLINK_ROUTE = 0;
/** The group of IPv4 routes as a bit (include/uapi/linux/rtnetlink.h, RTMGRP_IPV4_ROUTE). */
const IPV4_ROUTES = 0x40;
const READ_BYTES = 64 * 1024;
const RTA = { DST: 1, OIF: 4, GATEWAY: 5 } as const;

export class PeerRoutes {
  /** Readable when a route has changed. */
  readonly fd: number;
  readonly #buffer = Buffer.alloc(READ_BYTES);

  /** @param index of the device whose peers these are */
  constructor(
    private readonly prefixes: Prefixes,
    private readonly index: number,
  ) {
    this.fd = openSocket(AF_NETLINK, NETLINK_ROUTE);
    const address = Buffer.alloc(12);
    address.writeUInt16LE(AF_NETLINK, 0);
    address.writeUInt32LE(IPV4_ROUTES, 8);
    bindSocket(this.fd, address);
    // From here on no change is missed.
    this.#list();
  }

  #list(): void {
    const socket = new NetlinkSocket();
    try {
      this.prefixes.clear();
      for (const { type, body } of socket.dump(dumpRoutes)) this.#one(type, body);
    } finally {
      socket.close();
    }
  }

  /** Takes what has changed. */
  update(): void {
    try {
      for (;;) {
        const length = receiveFrom(this.fd, this.#buffer);
        if (length === undefined) return;
        for (const incoming of decodeMessages(this.#buffer.subarray(0, length)))
          if (incoming.kind === 'message') this.#one(incoming.type, incoming.body);
      }
    } catch (error) {
      if (!(error instanceof SystemError) || error.errno !== 'ENOBUFS') throw error;
      this.#list();
    }
  }

  #one(type: number, body: Buffer): void {
    if (body[0] !== AF_INET || body[4] !== WEFT_MARK) return;
    const attrs = decodeAttrs(body, 12);
    const [base, via] = [attrs.get(RTA.DST), attrs.get(RTA.GATEWAY)];
    const isOurs = attrs.get(RTA.OIF)?.readUInt32LE() === this.index;
    const length = body[1] ?? 0;
    if (base === undefined) return;
    // A route that is replaced is not reported to be gone: one with another device takes the prefix away.
    if (type === RTM.NEWROUTE)
      this.prefixes.set(base.readUInt32BE(), length, isOurs ? (via?.readUInt32BE() ?? 0) : 0);
    else if (type === RTM.DELROUTE && isOurs) this.prefixes.set(base.readUInt32BE(), length, 0);
  }
}
