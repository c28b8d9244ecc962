// Bytes of Ethernet frames, as packet sockets take them.
export const AF_PACKET = 17;

export const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');

/** In network byte order. */
export const u16 = (...values: number[]): Buffer =>
  Buffer.concat(values.map((value) => Buffer.from([value >> 8, value & 0xff])));
