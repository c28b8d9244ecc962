// Answers the probes of the real agent in the place of hollow nodes: `echo-peers ADDRESS…`, on the router of the lab.
//
// The agent sends ICMP echo requests through its tunnels. A hollow node has no tunnel, and without an answer each of its peers
// would be a broken path, which costs the agent other work than a path that is well.
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';

/** Of flannel, and weft's. */
const PORT = 8472;
/** RFC 7348 §5: the VXLAN header, then the inner frame. */
const FRAME = 8;
const IP = FRAME + 14;
const ETHERTYPE_IPV4 = 0x0800;
const ICMP = 1;
const ECHO_REQUEST = 8;
const ECHO_REPLY = 0;

/** Makes a request its own answer. @returns whether it was one */
function answers(packet: Buffer): boolean {
  if (packet.length < IP + 28 || packet.readUInt16BE(IP - 2) !== ETHERTYPE_IPV4) return false;
  const icmp = IP + (packet.readUInt8(IP) & 0x0f) * 4;
  if (packet.readUInt8(IP + 9) !== ICMP || packet.length < icmp + 8) return false;
  if (packet.readUInt8(icmp) !== ECHO_REQUEST) return false;
  swap(packet, FRAME, FRAME + 6, 6);
  // Their sum stays, and with it the checksum of the header.
  swap(packet, IP + 12, IP + 16, 4);
  packet.writeUInt8(ECHO_REPLY, icmp);
  // RFC 1624: by as much as the type has become less.
  const sum = packet.readUInt16BE(icmp + 2) + (ECHO_REQUEST << 8);
  packet.writeUInt16BE((sum & 0xffff) + (sum >>> 16), icmp + 2);
  return true;
}

function swap(packet: Buffer, a: number, b: number, length: number): void {
  const first = Buffer.from(packet.subarray(a, a + length));
  packet.copy(packet, a, b, b + length);
  first.copy(packet, b);
}

/** From the address that was asked: the agent takes packets of members alone. */
async function serve(address: string): Promise<void> {
  const socket: Socket = createSocket('udp4');
  socket.on('message', (packet, { address: from }) => {
    if (answers(packet)) socket.send(packet, PORT, from);
  });
  socket.bind(PORT, address);
  await once(socket, 'listening');
}

await Promise.all(process.argv.slice(2).map(serve));
console.log('listening');
