// Endpoints of this node: attach and detach, addresses, published ports, recovery, publishing.
export { Addresses } from './addresses.js';
export { type AttachRequest, parseAttach, parsePublishes } from './attach-request.js';
export { Attacher } from './attach.js';
export { ContainerChecks } from './container-checks.js';
export type { PreviousAddresses } from './endpoint-addresses.js';
export { EndpointTable, isToCome } from './endpoint-table.js';
export { EndpointPorts } from './endpoint-ports.js';
export { type EndpointHappening, Endpoints } from './endpoints.js';
export { ownsAddresses } from './managers.js';
export { HostEndpoint } from './host-endpoint.js';
export { PublishedPorts } from './published-ports.js';
export { Publisher } from './publisher.js';
export { earlierLifeEnds, mayBeMore, recoverEndpoints } from './recovery.js';
export { EndpointResolvConf } from './resolv-conf.js';
