// The node's identity: its certificate, how it was got, and its renewal.
export { nodeIdentityFolder } from './folder.js';
export { NodeIdentity } from './node-identity.js';
