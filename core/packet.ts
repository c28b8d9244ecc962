// Whose a packet is: the addresses in its headers, also inside of a tunnel's.
import { IpAddress } from './address.js';

// RFC 894, RFC 2464, RFC 826, IEEE 802.1Q.
const ETHERTYPE = { ip: 0x0800, arp: 0x0806, vlan: 0x8100, ip6: 0x86dd } as const;
// https://www.iana.org/assignments/protocol-numbers
const PROTOCOL = { ipip: 4, udp: 17, ip6: 41 } as const;
const UDP_HEADER = 8;
/** RFC 7348 §5. */
const VXLAN_HEADER = 8;

export interface TunnelPorts {
  /** UDP ports whose payload is a VXLAN header and a frame. */
  vxlan: ReadonlySet<number>;
  /** UDP ports whose payload is an IP packet. */
  plain: ReadonlySet<number>;
}

/**
 * Source and destination of each header that has addresses, the outermost first; none where it is no packet of IP or ARP.
 * @param isFrame whether it begins with an Ethernet header, else with that of IP
 */
export function addressesIn(bytes: Uint8Array, isFrame: boolean, ports: TunnelPorts): IpAddress[] {
  try {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    return isFrame ? inFrame(view, ports) : inPacket(view, ports);
  } catch (error) {
    // It was cut off.
    if (error instanceof RangeError) return [];
    throw error;
  }
}

function inFrame(frame: Buffer, ports: TunnelPorts): IpAddress[] {
  let at = 12;
  if (frame.readUInt16BE(at) === ETHERTYPE.vlan) at += 4;
  const type = frame.readUInt16BE(at);
  const rest = frame.subarray(at + 2);
  if (type === ETHERTYPE.arp) return rest.length < 28 ? [] : [address(rest, 14, 4), address(rest, 24, 4)];
  return type === ETHERTYPE.ip || type === ETHERTYPE.ip6 ? inPacket(rest, ports) : [];
}

function inPacket(packet: Buffer, ports: TunnelPorts): IpAddress[] {
  const version = packet.readUInt8(0) >> 4;
  if (version === 4 && packet.length >= 20) {
    const header = (packet.readUInt8(0) & 0xf) * 4;
    const own = [address(packet, 12, 4), address(packet, 16, 4)];
    return [...own, ...inPayload(packet.readUInt8(9), packet.subarray(header), ports)];
  }
  if (version === 6 && packet.length >= 40) {
    const own = [address(packet, 8, 16), address(packet, 24, 16)];
    return [...own, ...inPayload(packet.readUInt8(6), packet.subarray(40), ports)];
  }
  return [];
}

function inPayload(protocol: number, payload: Buffer, ports: TunnelPorts): IpAddress[] {
  if (protocol === PROTOCOL.ipip || protocol === PROTOCOL.ip6) return inPacket(payload, ports);
  if (protocol !== PROTOCOL.udp || payload.length < UDP_HEADER) return [];
  const port = payload.readUInt16BE(2);
  if (ports.vxlan.has(port)) return inFrame(payload.subarray(UDP_HEADER + VXLAN_HEADER), ports);
  return ports.plain.has(port) ? inPacket(payload.subarray(UDP_HEADER), ports) : [];
}

const address = (bytes: Buffer, from: number, length: number): IpAddress =>
  IpAddress.fromBytes(bytes.subarray(from, from + length));
