// Queries one server for one name every two milliseconds, and prints every change.
//
// Started inside a container.
import { createSocket } from 'node:dgram';

import { decode, encode } from 'dns-packet';

const [, , server = '', name = ''] = process.argv;
const socket = createSocket('udp4');
let there: boolean | undefined;

socket.on('message', (answer) => {
  const { answers = [] } = decode(answer);
  const now = answers.length > 0;
  if (now !== there) process.stdout.write(`${JSON.stringify({ at: Date.now(), there: now })}\n`);
  there = now;
});
socket.connect(53, server, () => {
  let id = 0;
  setInterval(() => {
    id = (id + 1) & 0xffff;
    // A failed send is repeated two milliseconds later.
    const question = encode({ type: 'query', id, flags: 0x0100, questions: [{ type: 'A', name }] });
    socket.send(question, () => undefined);
  }, 2);
});
