// Sends one datagram: `node build/test/lab/datagram.js FROM TO PORT INNER-SOURCE INNER-DESTINATION`.
//
// Its payload is an IPv4 packet with an ICMP echo request, as a node of a udp network sends it.
import { createSocket } from 'node:dgram';

import { checksum } from '../../agent/kernel/internet-checksum.js';

const [from = '', to = '', port = '', source = '', destination = ''] = process.argv.slice(2);

const bytes = (ip: string): number[] => ip.split('.').map(Number);

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

const socket = createSocket('udp4');
socket.bind(0, from, () =>
  socket.send(Buffer.concat([header, echo]), Number(port), to, () => socket.close()),
);
