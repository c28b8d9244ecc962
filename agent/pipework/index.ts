// Attachments of `weft pipework`: container interfaces on links of the host.
export { WireState } from './attachment-state.js';
export { Wires } from './attachments.js';
export { parseWire, parseWireDetach, wireMessage } from './messages.js';
