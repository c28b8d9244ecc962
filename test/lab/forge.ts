// Sends frames as they are: `forge.js IFNAME HEX[*TIMES]…`, in the namespace of the interface.
import { execFileSync } from 'node:child_process';

import { closeFd, openSocket, sendTo } from '../../agent/kernel/libc.js';

/** AF_PACKET (include/linux/socket.h). */
const AF_PACKET = 17;

const [ifname = '', ...frames] = process.argv.slice(2);
const [link] = JSON.parse(
  execFileSync('ip', ['-j', 'link', 'show', 'dev', ifname], { encoding: 'utf8' }),
) as [{ ifindex: number }];
// struct sockaddr_ll (include/uapi/linux/if_packet.h).
const address = Buffer.alloc(20);
address.writeUInt16LE(AF_PACKET, 0);
address.writeInt32LE(link.ifindex, 4);
const fd = openSocket(AF_PACKET, 0);
for (const text of frames) {
  const [hex = '', times = '1'] = text.split('*');
  const frame = Buffer.from(hex, 'hex');
  for (let i = 0; i < Number(times); i++) sendTo(fd, frame, address);
}
closeFd(fd);
