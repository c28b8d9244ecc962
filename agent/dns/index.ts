// DNS for containers: the table of names, the sockets, forwarding.
export { nameApi, type NameApi } from './api.js';
export { Dns } from './dns.js';
export { DOMAIN } from './resolv-conf.js';
export { DNS_PORT } from './listeners.js';
export { dnsMetrics } from './metrics.js';
export { NetnsResolvConf } from './netns-resolv-conf.js';
export { dnsServers } from './server-setting.js';
