// Writes pcapng, which Wireshark and tcpdump read: one interface for each point where packets were seen.
// https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-02.html

const BLOCK = { section: 0x0a0d0d0a, interface: 1, packet: 6 } as const;
const BYTE_ORDER = 0x1a2b3c4d;
const OPTION = { end: 0, name: 2, description: 3 } as const;
/** Unknown, as the file is written while packets come. */
const LENGTH_UNKNOWN = 0xffffffffffffffffn;

/** The beginning of a file. */
export function sectionHeader(): Buffer {
  const body = Buffer.alloc(16);
  body.writeUInt32LE(BYTE_ORDER, 0);
  body.writeUInt16LE(1, 4);
  body.writeUInt16LE(0, 6);
  body.writeBigUInt64LE(LENGTH_UNKNOWN, 8);
  return block(BLOCK.section, body);
}

/** Interfaces count from 0 in the order of their blocks. Times are in microseconds, as by default. */
export function interfaceBlock(of: { linkType: number; name: string; description: string }): Buffer {
  const fixed = Buffer.alloc(8);
  fixed.writeUInt16LE(of.linkType, 0);
  return block(
    BLOCK.interface,
    Buffer.concat([
      fixed,
      option(OPTION.name, of.name),
      option(OPTION.description, of.description),
      Buffer.alloc(4),
    ]),
  );
}

/** @param length of the packet as it was; `bytes` may be its beginning */
export function packetBlock(of: {
  interface: number;
  time: number;
  length: number;
  bytes: Uint8Array;
}): Buffer {
  const head = Buffer.alloc(20);
  const time = BigInt(of.time);
  head.writeUInt32LE(of.interface, 0);
  head.writeUInt32LE(Number(time >> 32n), 4);
  head.writeUInt32LE(Number(time & 0xffffffffn), 8);
  head.writeUInt32LE(of.bytes.length, 12);
  head.writeUInt32LE(of.length, 16);
  return block(BLOCK.packet, Buffer.concat([head, padded(of.bytes)]));
}

function block(type: number, body: Buffer): Buffer {
  const length = body.length + 12;
  const head = Buffer.alloc(8);
  head.writeUInt32LE(type, 0);
  head.writeUInt32LE(length, 4);
  return Buffer.concat([head, body, head.subarray(4)]);
}

function option(code: number, text: string): Buffer {
  const value = Buffer.from(text);
  const head = Buffer.alloc(4);
  head.writeUInt16LE(code, 0);
  head.writeUInt16LE(value.length, 2);
  return Buffer.concat([head, padded(value)]);
}

/** To a multiple of four bytes. */
const padded = (bytes: Uint8Array): Buffer =>
  Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
