// Ethernet frames as an attacker makes them, with addresses of their choice.
import { checksum } from '../../agent/kernel/internet-checksum.js';
import { IpAddress } from '../../core/address.js';

export const BROADCAST = 'ff:ff:ff:ff:ff:ff';

const u16 = (...values: number[]): Buffer =>
  Buffer.concat(values.map((value) => Buffer.from([value >> 8, value & 0xff])));
const u32 = (value: number): Buffer => u16(value >>> 16, value & 0xffff);
const macBytes = (mac: string): Buffer => Buffer.from(mac.replaceAll(':', ''), 'hex');
const ip = (text: string): Buffer => Buffer.from(IpAddress.parse(text).toBytes());

interface Ends {
  from: string;
  to: string;
}

/** @param to and from: MAC addresses */
export const ethernet = ({ from, to }: Ends, type: number, payload: Buffer): Buffer =>
  Buffer.concat([macBytes(to), macBytes(from), u16(type), payload]);

/** Behind an 802.1Q tag, which names no VLAN if it is 0. */
export function tagged(frame: Buffer, vlan: number): Buffer {
  return Buffer.concat([frame.subarray(0, 12), u16(0x8100, vlan), frame.subarray(12)]);
}

/** A reply: `sender` is at this MAC address. */
export const arp = (ends: Ends, sender: { mac: string; ip: string }, target: string): Buffer =>
  ethernet(
    ends,
    0x0806,
    Buffer.concat([
      u16(1, 0x0800, 0x0604, 2),
      ...[macBytes(sender.mac), ip(sender.ip), macBytes(ends.to), ip(target)],
    ]),
  );

interface Datagram extends Ends {
  fromPort: number;
  toPort: number;
  payload: Buffer;
}

/** Between IP addresses; the checksum of UDP is left out over IPv4 (RFC 768), and a real one over IPv6. */
export function udp({ from, to, fromPort, toPort, payload }: Datagram): { type: number; packet: Buffer } {
  const body = Buffer.concat([u16(fromPort, toPort, 8 + payload.length, 0), payload]);
  if (!from.includes(':')) return { type: 0x0800, packet: ipv4({ from, to }, 17, body) };
  body.writeUInt16BE(pseudoChecksum(from, to, 17, body), 6);
  return { type: 0x86dd, packet: ipv6({ from, to }, 17, body) };
}

function ipv4({ from, to }: Ends, next: number, body: Buffer): Buffer {
  const header = Buffer.concat([
    Buffer.from([0x45, 0]),
    u16(20 + body.length, 1, 0),
    Buffer.from([64, next]),
    ...[u16(0), ip(from), ip(to)],
  ]);
  header.writeUInt16BE(checksum(header), 10);
  return Buffer.concat([header, body]);
}

/** A segment without data over IPv4 (RFC 9293 §3.1). @param flags SYN is 2, ACK 16 */
export function tcpFrame(
  ends: Ends,
  { from, to, fromPort, toPort, flags }: Omit<Datagram, 'payload'> & { flags: number },
): Buffer {
  const segment = Buffer.concat([
    u16(fromPort, toPort),
    u32(1),
    u32(0),
    Buffer.from([0x50, flags]),
    u16(1024, 0, 0),
  ]);
  const pseudo = Buffer.concat([ip(from), ip(to), u16(6, segment.length)]);
  segment.writeUInt16BE(checksum(Buffer.concat([pseudo, segment])), 16);
  return ethernet(ends, 0x0800, ipv4({ from, to }, 6, segment));
}

/** What a DHCP server answers: the client of this MAC address has this address (RFC 2131 §2). */
export function dhcpAnswer(ends: Ends, server: string, client: { mac: string; ip: string }): Buffer {
  const payload = Buffer.alloc(240);
  Buffer.from([2, 1, 6, 0]).copy(payload);
  ip(client.ip).copy(payload, 16);
  macBytes(client.mac).copy(payload, 28);
  Buffer.from([0x63, 0x82, 0x53, 0x63]).copy(payload, 236);
  const ack = Buffer.concat([payload, Buffer.from([53, 1, 5, 255])]);
  return udpFrame(ends, { from: server, to: client.ip, fromPort: 67, toPort: 68, payload: ack });
}

export const udpFrame = (ends: Ends, datagram: Datagram): Buffer => {
  const { type, packet } = udp(datagram);
  return ethernet(ends, type, packet);
};

const ipv6 = ({ from, to }: Ends, next: number, body: Buffer): Buffer =>
  Buffer.concat([u32(0x6000_0000), u16(body.length), Buffer.from([next, 255]), ip(from), ip(to), body]);

function pseudoChecksum(from: string, to: string, next: number, body: Buffer): number {
  const padding = Buffer.alloc(body.length % 2);
  return checksum(Buffer.concat([ip(from), ip(to), u16(0, body.length, 0, next), body, padding]));
}

function icmp6(ends: Ends, { from, to }: Ends, body: Buffer): Buffer {
  body.writeUInt16BE(pseudoChecksum(from, to, 58, body), 2);
  return ethernet(ends, 0x86dd, ipv6({ from, to }, 58, body));
}

/** A neighbour advertisement that overrides (RFC 4861 §4.4): `target` is at the sender's MAC address. */
export const advertisement = (ends: Ends, packet: Ends, target: string): Buffer =>
  icmp6(
    ends,
    packet,
    Buffer.concat([u16(136 << 8, 0), u32(0x2000_0000), ip(target), Buffer.from([2, 1]), macBytes(ends.from)]),
  );

/** A router advertisement of a default router (RFC 4861 §4.2). */
export const routerAdvertisement = (ends: Ends, packet: Ends): Buffer =>
  icmp6(ends, packet, Buffer.concat([u16(134 << 8, 0, 64 << 8, 1800), u32(0), u32(0)]));

/** An IPv6 frame with hop-by-hop options before what it carries (RFC 8200 §4.3). */
export function behindOptions(frame: Buffer): Buffer {
  const [header, payload] = [Buffer.from(frame.subarray(0, 54)), frame.subarray(54)];
  const options = Buffer.from([header[20] ?? 0, 0, 1, 4, 0, 0, 0, 0]);
  header.writeUInt16BE(payload.length + options.length, 18);
  header[20] = 0;
  return Buffer.concat([header, options, payload]);
}

/** A redirect of what goes to `target` (RFC 4861 §4.5). */
export const redirect = (ends: Ends, packet: Ends, target: string): Buffer =>
  icmp6(ends, packet, Buffer.concat([u16(137 << 8, 0), u32(0), ip(packet.from), ip(target)]));

/** The payload of a datagram to a VTEP (RFC 7348 §5). */
export const vxlan = (vni: number, frame: Buffer): Buffer =>
  Buffer.concat([u32(0x0800_0000), u32(vni * 256), frame]);
