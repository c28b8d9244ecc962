// Files of the state directory.
export { InterfaceLoanFiles } from './interface-loans.js';
export { PumpFiles } from './pump-files.js';
export type { SavedNetwork } from './records.js';
export { WireguardKeys } from './wireguard-keys.js';
export { instanceIn, type Loaded, State, STATE_FILES } from './state.js';
