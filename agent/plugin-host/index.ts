// What plugins (plugin/) may ask of the agent.
export { PluginAddresses, SET_ASIDE } from './addresses.js';
export { PluginEndpoints } from './endpoints.js';
export { PluginNetworks } from './networks.js';
