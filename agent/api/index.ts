// The agent’s gRPC API, its status, and its session with the controller.
export { startGauges } from './gauges.js';
export { agentDoor } from './handlers.js';
export { mountHost } from './host-endpoint-service.js';
export { serveApi } from './server.js';
export { startSession } from './session.js';
export { statusOf, wireEndpoint } from './status.js';
