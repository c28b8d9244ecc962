// Announcements: who answers for an address from now on.
//
// Neighbours remember a link address for half a minute and more before they ask again. A gratuitous ARP request (RFC 5227 §2.3)
// and an unsolicited neighbour advertisement (RFC 4861 §7.2.6) change what they remember at once, and teach bridges and
// switches the port. Neighbours that remember nothing learn nothing from them.
import { IpAddress } from '../../core/address.js';
import { AF_PACKET, macBytes, u16 } from './frames.js';
import { checksum } from './internet-checksum.js';
import { closeAside, openSocket, sendTo } from './libc.js';

/** An address, and the link whose link address answers for it. */
export interface AnnouncedAddress {
  index: number;
  mac: string;
  ip: IpAddress;
  /** Source address of the IPv6 packet, one of the link. */
  from: IpAddress;
}

// include/uapi/linux/if_ether.h
const ETH_P_ARP = 0x0806;
const ETH_P_IPV6 = 0x86dd;
const BROADCAST = 'ff:ff:ff:ff:ff:ff';
/** ff02::1, and the link address that it is sent to (RFC 2464 §7). */
const ALL_NODES = IpAddress.parse('ff02::1');
const ALL_NODES_MAC = '33:33:00:00:00:01';
const ICMPV6 = 58;
/** Replaces what a neighbour knows (the O flag). */
const OVERRIDE = 0x20;

/** Sends one frame for each, in the namespace that the process is in. @throws SystemError */
export function sendAnnouncements(addresses: readonly AnnouncedAddress[]): void {
  // Protocol 0: nothing is received.
  const fd = openSocket(AF_PACKET, 0);
  try {
    for (const { index, mac, ip, from } of addresses) {
      const [protocol, frame] =
        ip.family === 4 ? [ETH_P_ARP, arp(mac, ip)] : [ETH_P_IPV6, advertisement(mac, ip, from)];
      sendTo(fd, frame, linkAddress(index, protocol));
    }
  } finally {
    closeAside(fd);
  }
}

/** struct sockaddr_ll (include/uapi/linux/if_packet.h). */
function linkAddress(index: number, protocol: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt16LE(AF_PACKET, 0);
  bytes.writeUInt16BE(protocol, 2);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt8(6, 11);
  return bytes;
}

/** Sender and target are the address itself. */
function arp(mac: string, ip: IpAddress): Buffer {
  const sender = Buffer.concat([macBytes(mac), ip.toBytes()]);
  return Buffer.concat([
    ...[macBytes(BROADCAST), macBytes(mac), u16(ETH_P_ARP)],
    // Ethernet, IPv4, lengths of both addresses, request.
    ...[u16(1, 0x0800, 0x0604, 1), sender, Buffer.alloc(6), ip.toBytes()],
  ]);
}

function advertisement(mac: string, ip: IpAddress, from: IpAddress): Buffer {
  const body = Buffer.concat([
    Buffer.from([136, 0, 0, 0, OVERRIDE, 0, 0, 0]),
    ip.toBytes(),
    // Option 2, target link-layer address, of eight bytes.
    ...[Buffer.from([2, 1]), macBytes(mac)],
  ]);
  const addresses = Buffer.concat([from.toBytes(), ALL_NODES.toBytes()]);
  // RFC 8200 §8.1: the checksum covers a header of these.
  const pseudo = Buffer.concat([addresses, u16(0, body.length, 0, ICMPV6), body]);
  body.writeUInt16BE(checksum(pseudo), 2);
  return Buffer.concat([
    ...[macBytes(ALL_NODES_MAC), macBytes(mac), u16(ETH_P_IPV6)],
    // The hop limit of 255 shows that no router forwarded it.
    ...[Buffer.from([0x60, 0, 0, 0]), u16(body.length), Buffer.from([ICMPV6, 255]), addresses, body],
  ]);
}
