// Sends one packet within another: `node build/test/lab/datagram.js FROM TO PORT|ipip INNER-SOURCE INNER-DESTINATION`.
//
// An IPv4 packet with an ICMP echo request as the payload of UDP, or of IP, as a node of a udp or ipip network sends it.
import { createSocket } from 'node:dgram';

import { checksum } from '../../agent/kernel/internet-checksum.js';
import { AF_INET, bindSocket, closeFd, openSocket, sendTo } from '../../agent/kernel/libc.js';

const [from = '', to = '', port = '', source = '', destination = ''] = process.argv.slice(2);

const IPPROTO_IPIP = 4;

const bytes = (ip: string): number[] => ip.split('.').map(Number);
/** struct sockaddr_in, without a port. */
const address = (ip: string): Buffer => Buffer.from([AF_INET, 0, 0, 0, ...bytes(ip), 0, 0, 0, 0, 0, 0, 0, 0]);

const echo = Buffer.from([8, 0, 0, 0, 0x77, 0x77, 0, 1]);
echo.writeUInt16BE(checksum(echo), 2);
const header = Buffer.from([
  0x45,
  0,
  0,
  28,
  0,
  0,
  0,
  0,
  64,
  1,
  0,
  0,
  ...bytes(source),
  ...bytes(destination),
]);
header.writeUInt16BE(checksum(header), 10);
const packet = Buffer.concat([header, echo]);

if (port === 'ipip') {
  const fd = openSocket(AF_INET, IPPROTO_IPIP);
  bindSocket(fd, address(from));
  sendTo(fd, packet, address(to));
  closeFd(fd);
} else {
  const socket = createSocket('udp4');
  socket.bind(0, from, () => socket.send(packet, Number(port), to, () => socket.close()));
}
