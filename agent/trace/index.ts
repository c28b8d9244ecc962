// Traces: this node's part in following a packet from one container or node to another.
export { TracePeers } from './peers.js';
export { Tracer, type TracerOptions } from './tracer.js';
