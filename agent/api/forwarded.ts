// Requests that a controller forwards.
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import type { AgentApi } from './server.js';
import type { SessionRequest } from './session.js';

type Forwarded = Pick<AgentApi, 'attach' | 'detach' | 'updateEndpoint' | 'inspectEndpoint'>;

/** @throws WeftError */
export function handleRequest(
  request: SessionRequest,
  api: Forwarded,
  signal: AbortSignal,
): Promise<Endpoint> {
  switch (request.$case) {
    case 'attach':
      return api.attach(request.value, signal);
    case 'detach':
      return api.detach(request.value, signal);
    case 'update':
      return api.updateEndpoint(request.value);
    case 'inspect':
      return api.inspectEndpoint(request.value);
  }
}
