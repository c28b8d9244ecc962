// The agent's gRPC API, its status, and its session with the controller.
export { startGauges } from './gauges.js';
export { agentApi } from './handlers.js';
export { mountHostEndpoint } from './host-endpoint-service.js';
export { serveApi } from './server.js';
export { startSession, type SessionState } from './session.js';
export { endpointMessage, statusOf, type StatusSources } from './status.js';
