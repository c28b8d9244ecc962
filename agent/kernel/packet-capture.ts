// Reads the packets that pass links of this node, by packet sockets (packet(7)).
//
// A socket holds what arrives until it is read; what it has no room for is counted.
import { AF_PACKET } from './frames.js';
import type { CapturedFrame, PacketCapture } from './kernel.js';
import {
  bindSocket,
  closeAside,
  droppedBy,
  openSocket,
  receivedAt,
  receiveFrom,
  setSocketOption,
  wallClock,
} from './libc.js';

// include/uapi/linux/if_ether.h, include/uapi/asm-generic/socket.h
const ETH_P_ALL = 3;
const SO_RCVBUFFORCE = 33;
const BUFFER_BYTES = 8 * 1024 * 1024;
/** The longest frame that segmentation offload makes, and its headers. */
const LONGEST = 65_535 + 256;
/** Frames that are read of one link before the next one's turn. */
const AT_ONCE = 256;

/** Opened in the namespace of the caller. @param links by index, with names @throws SystemError */
export function openCapture(links: readonly { index: number; name: string }[]): PacketCapture {
  const sockets: { link: string; fd: number; dropped: number }[] = [];
  const buffer = Buffer.alloc(LONGEST);
  const close = (): void => {
    for (const { fd } of sockets.splice(0)) closeAside(fd);
  };
  try {
    for (const { index, name } of links) {
      // Protocol 0 receives nothing until the socket is bound to the link.
      const fd = openSocket(AF_PACKET, 0);
      sockets.push({ link: name, fd, dropped: 0 });
      setSocketOption(fd, SO_RCVBUFFORCE, BUFFER_BYTES);
      // The first call enables timestamps.
      receivedAt(fd);
      bindSocket(fd, linkAddress(index));
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    read: () => {
      const frames: CapturedFrame[] = [];
      let missed = 0;
      for (const socket of sockets) {
        for (let i = 0; i < AT_ONCE; i++) {
          const length = receiveFrom(socket.fd, buffer);
          if (length === undefined) break;
          const at = receivedAt(socket.fd) ?? wallClock();
          frames.push({
            link: socket.link,
            microseconds: Number(at / 1000n),
            bytes: Buffer.from(buffer.subarray(0, length)),
          });
        }
        const dropped = droppedBy(socket.fd);
        missed += dropped - socket.dropped;
        socket.dropped = dropped;
      }
      return { frames, missed };
    },
    close,
  };
}

/** struct sockaddr_ll (include/uapi/linux/if_packet.h). */
function linkAddress(index: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeUInt16LE(AF_PACKET, 0);
  bytes.writeUInt16BE(ETH_P_ALL, 2);
  bytes.writeInt32LE(index, 4);
  return bytes;
}
