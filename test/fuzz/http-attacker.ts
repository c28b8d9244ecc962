// `attackPages` as a program, to be run in the network namespace that the server listens in. Says nothing and ends with 0, or
// with what went wrong.
import { attackPages } from './http-attack.js';

const [host = '', port = '', runs = ''] = process.argv.slice(2);
await attackPages({ host, port: Number(port) }, Number(runs));
