// The side of a process of the bench: answers the requests that come by a unix socket, one after the other.
import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';

import { messageOf } from '../../../core/errors.js';
import type { Answer, Request } from './messages.js';

/** Ends the process with the connection. @param name by which the bench knows it */
export function answerAt(path: string, name: string, answer: (request: Request) => Promise<Answer>): void {
  const socket = createConnection(path);
  socket.write(`${JSON.stringify({ name })}\n`);
  socket.on('close', () => process.exit(0));
  socket.on('error', () => process.exit(1));
  let turn = Promise.resolve();
  createInterface({ input: socket }).on('line', (line) => {
    turn = turn.then(async () => {
      const request = JSON.parse(line) as Request;
      const answered = await answer(request).catch((error: unknown): Answer => ({ error: messageOf(error) }));
      socket.write(`${JSON.stringify(answered)}\n`);
    });
  });
}
