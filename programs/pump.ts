// The pump: carries the packets of one udp network. The agent starts it; it is no part of a bundle, and loads little.
import { main } from '../agent/kernel/pump/main.js';

main(process.argv.slice(2));
