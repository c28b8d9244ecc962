// Requests that a controller forwards.
import type { Tracer } from '../trace/index.js';
import type { AgentApi } from './server.js';
import type { SessionReply, SessionRequest } from './session.js';

type Forwarded = Pick<AgentApi, 'attach' | 'detach' | 'updateEndpoint' | 'inspectEndpoint'>;

/** @throws WeftError */
export async function handleRequest(
  request: SessionRequest,
  api: Forwarded,
  tracer: Pick<Tracer, 'handle'>,
  signal: AbortSignal,
): Promise<SessionReply> {
  switch (request.$case) {
    case 'attach':
      return { $case: 'endpoint', value: await api.attach(request.value, signal) };
    case 'detach':
      return { $case: 'endpoint', value: await api.detach(request.value, signal) };
    case 'update':
      return { $case: 'endpoint', value: await api.updateEndpoint(request.value) };
    case 'inspect':
      return { $case: 'endpoint', value: await api.inspectEndpoint(request.value) };
    case 'probe':
      return { $case: 'probe', value: await tracer.handle(request.value) };
  }
}
