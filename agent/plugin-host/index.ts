// Plugin host: networks, addresses and endpoints for plugins (plugin/).
export { PluginAddresses, SET_ASIDE } from './addresses.js';
export { PluginEndpoints } from './endpoints.js';
export { PluginNetworks } from './networks.js';
