// `attackPages` as a program, for the network namespace of the server.
//
// Prints nothing and exits with 0, or prints the failure.
import { attackPages } from './http-attack.js';

const [host = '', port = '', runs = ''] = process.argv.slice(2);
await attackPages({ host, port: Number(port) }, Number(runs));
