// Containers of `weft run`: start, stop, restart, logs.
export { clearContainers } from './clear.js';
export { containerNetworks } from './container-networks.js';
export { ContainerState } from './container-state.js';
export { Containers } from './containers.js';
export { mountRuntime } from './service.js';
