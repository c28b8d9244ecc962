// Whether somebody serves at a unix socket, or a dead process has left it.
import { connect } from 'node:net';

/** Whether somebody serves at a unix socket. */
export function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    const done = (answer: boolean): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done(true)).once('error', () => done(false));
    socket.setTimeout(1000, () => done(true));
  });
}
