// The agent's gRPC API, its status, and its session with the controller.
export type { Answering } from './answer-streams.js';
export { handleRequest } from './forwarded.js';
export { measureNode } from './gauges.js';
export { agentApi } from './handlers.js';
export { HttpRoutes } from './http-socket.js';
export { mountHostEndpoint } from './host-endpoint-service.js';
export { mountInspection } from './inspection-service.js';
export { mountKeys } from './key-service.js';
export { networkWriter } from './network-writer.js';
export { type ApiSocket, type Mount, openSocket } from './server.js';
export { startSession, type SessionState } from './session.js';
export {
  endpointMessage,
  etcdAt,
  startStatusOf,
  unidentifiedStatusOf,
  statusOf,
  type StartSources,
  type StatusSources,
} from './status.js';
