// Handlers of the agent's API.
//
// They are the same for its socket and for requests that the controller forwards.
import type { Store } from '../../store/store.js';
import { parseDetach, type AgentApi } from './server.js';
import {
  type Attacher,
  type EndpointPorts,
  type Endpoints,
  parseAttach,
  type PublishedPorts,
} from '../endpoints/index.js';
import { type Dns, nameApi } from '../dns/index.js';
import type { Memberships } from '../networks/index.js';
import type { AgentMetrics } from '../health/index.js';
import { portApi } from './port-handlers.js';
import type { Containers } from '../runtime/index.js';
import { endpointMessage } from './status.js';
import {
  parsePipeworkAttach,
  parsePipeworkDetach,
  attachmentMessage,
  type Attachments,
} from '../pipework/index.js';

export interface AgentApiOptions {
  store: Store;
  memberships: Memberships;
  attacher: Attacher;
  endpoints: Endpoints;
  endpointPorts: EndpointPorts;
  ports: PublishedPorts;
  containers: Containers;
  attachments: Attachments;
  dns: Dns;
  metrics: AgentMetrics;
  status: AgentApi['status'];
  /** Called after a change. */
  changed: () => void;
}

export function agentApi(options: AgentApiOptions): AgentApi {
  const { store, memberships, attacher, containers, attachments, dns, metrics, status, changed } = options;
  return {
    attach: async (message, signal) => {
      const end = metrics.attachSeconds.startTimer();
      try {
        const endpoint = await attacher.attach(parseAttach(message), { signal });
        containers.attached(message, endpoint);
        end({ result: 'done' });
        changed();
        return endpointMessage(endpoint, memberships);
      } catch (error) {
        end({ result: 'refused' });
        throw error;
      }
    },
    detach: async (message, signal) => {
      const { network, target } = parseDetach(message);
      // Before the detach: its gateway and MTU come from the network.
      const endpoint = await attacher.detach(network, target, signal);
      containers.detached(endpoint);
      changed();
      return endpointMessage(endpoint, memberships);
    },
    pipework: async (message, signal) =>
      attachmentMessage(await attachments.attach(parsePipeworkAttach(message), signal)),
    pipeworkDetach: async (message, signal) =>
      attachmentMessage(await attachments.detach(parsePipeworkDetach(message), signal)),
    status,
    names: nameApi({ dns, store, networks: () => memberships.list().map(({ network }) => network.name) }),
    ...portApi(options),
  };
}
