// The underlay: this node's address and MTU, and probes of the paths to its peers.
export { duplicateAddresses } from './duplicate-addresses.js';
export { findUnderlay, type LastAddresses, type UnderlaySettings } from './find-underlay.js';
export { NodeUnderlay } from './node-underlay.js';
export type { PathHappening } from './path-events.js';
export { measurePeers } from './peer-metrics.js';
export { Peers } from './peers.js';
export { routerAdvertisements } from './router-advertisements.js';
