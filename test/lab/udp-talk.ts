// Both ends of an uninterrupted UDP flow.
//
// `answer PORT WORD`: answers every datagram with WORD. `ask IP PORT`: sends ten datagrams a second from one port, and prints
// every answer.
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';

const [what = '', first = '', second = ''] = process.argv.slice(2);
if (what === 'answer') {
  const socket = createSocket({ type: 'udp6', ipv6Only: false });
  socket.on('message', (_question, { port, address }) => socket.send(second, port, address));
  socket.bind(Number(first), () => console.log('ready'));
} else {
  const socket = createSocket(isIPv6(first) ? 'udp6' : 'udp4');
  socket.on('message', (answer) => console.log(answer.toString()));
  // Nothing listens there yet.
  socket.on('error', () => undefined);
  socket.bind(0, () => {
    console.log('ready');
    setInterval(() => socket.send('?', Number(second), first, () => undefined), 100);
  });
}
