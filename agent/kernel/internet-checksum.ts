// Internet checksum of the packets that weft builds itself: ICMP, ICMPv6.

/** Internet checksum, RFC 1071. @param bytes an even number */
export function checksum(bytes: Buffer): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
