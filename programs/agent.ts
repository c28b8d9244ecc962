// `weft agent`: agent and plugins know only what they offer each other, and are put together here.
import { main } from '../agent/main.js';
import { cni } from '../plugin/cni/index.js';
import { cnm } from '../plugin/cnm/index.js';
import { netavark } from '../plugin/netavark/index.js';

/** @param argv the words behind `weft agent` */
export const run = (argv: readonly string[]): Promise<void> => main(argv, [cnm, cni, netavark]);
