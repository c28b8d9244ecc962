// Who is at the other end of a local socket.
import { getSocketOption } from './libc.js';

/** unix(7): pid, uid and gid of the process that connected. */
const SO_PEERCRED = 17;

/** The user id of the peer. @param fd of a connected unix socket */
export const peerUid = (fd: number): number => Number(getSocketOption(fd, SO_PEERCRED, 8) >> 32n);
