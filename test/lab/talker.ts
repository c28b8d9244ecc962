// A long-lived HTTP connection, with a line for each answer.
//
// Sends requests to one server over one connection. It never reconnects: when the connection ends, so does this.
import { connect } from 'node:net';

const [, , host = '', port = '80'] = process.argv;
const socket = connect(Number(port), host);
const ask = (): void => void socket.write(`GET / HTTP/1.1\r\nHost: x\r\n\r\n`);
socket.on('connect', () => {
  console.log('connected');
  ask();
});
socket.on('data', () => {
  console.log('answer');
  setTimeout(ask, 50);
});
socket.on('close', () => {
  console.log('closed');
  process.exit(1);
});
socket.on('error', (error) => console.log(error.message));
