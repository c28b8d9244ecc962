// A service in a container, which echoes the client's address.
//
// Answers every HTTP request and every datagram with the address it came from, and holds a request for /hold open, with a line
// each time something is sent.
import { createSocket } from 'node:dgram';
import { createServer } from 'node:http';

const [, , tcp = '80', udp = tcp] = process.argv;

const plain = (address: string | undefined): string => (address ?? '').replace(/^::ffff:/, '');

const server = createServer((request, response) => {
  response.end(`${plain(request.socket.remoteAddress)}\n`);
});
// Everything that is not HTTP is echoed: a connection that stays open.
server.on('clientError', (_error, socket) => socket.destroy());
server.keepAliveTimeout = 600_000;
server.listen(Number(tcp), '::', () => {
  const socket = createSocket({ type: 'udp6', ipv6Only: false });
  socket.on('message', (_message, from) => socket.send(`${plain(from.address)}\n`, from.port, from.address));
  socket.bind(Number(udp), '::', () => console.log('ready'));
});
