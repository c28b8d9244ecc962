// What can be asked of this agent, put together from the parts that do it. By its socket and by way of the controller it is
// the same.
import type { Store } from '../../store/store.js';
import { parseDetach, type AgentDoor } from './server.js';
import {
  type Attacher,
  type EndpointPorts,
  type Endpoints,
  parseAttach,
  type Ports,
} from '../endpoints/index.js';
import { type Dns, nameApi } from '../dns/index.js';
import type { Memberships } from '../networks/index.js';
import type { AgentMetrics } from '../health/index.js';
import { portDoor } from './port-handlers.js';
import type { Containers } from '../runtime/index.js';
import { wireEndpoint } from './status.js';
import { parseWire, parseWireDetach, wireMessage, type Wires } from '../pipework/index.js';

export interface AgentDoorOptions {
  store: Store;
  memberships: Memberships;
  attacher: Attacher;
  endpoints: Endpoints;
  endpointPorts: EndpointPorts;
  ports: Ports;
  containers: Containers;
  wires: Wires;
  dns: Dns;
  metrics: AgentMetrics;
  status: AgentDoor['status'];
  /** Called after a change. */
  changed: () => void;
}

export function agentDoor(options: AgentDoorOptions): AgentDoor {
  const { store, memberships, attacher, containers, wires, dns, metrics, status, changed } = options;
  return {
    attach: async (wire) => {
      const end = metrics.attachSeconds.startTimer();
      try {
        const endpoint = await attacher.attach(parseAttach(wire));
        containers.attached(wire, endpoint);
        end({ result: 'done' });
        changed();
        return wireEndpoint(endpoint, memberships);
      } catch (error) {
        end({ result: 'refused' });
        throw error;
      }
    },
    detach: async (wire) => {
      const { network, target } = parseDetach(wire);
      // Before it is gone: its gateway and MTU are the network's.
      const endpoint = await attacher.detach(network, target);
      containers.detached(endpoint);
      changed();
      return wireEndpoint(endpoint, memberships);
    },
    pipework: async (wire) => wireMessage(await wires.attach(parseWire(wire))),
    pipeworkDetach: async (wire) => wireMessage(await wires.detach(parseWireDetach(wire))),
    status,
    names: nameApi({ dns, store, networks: () => memberships.list().map(({ network }) => network.name) }),
    ...portDoor(options),
  };
}
