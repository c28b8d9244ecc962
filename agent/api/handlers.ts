// Handlers of the agent's API.
//
// They are the same for its socket and for requests that the controller forwards.
import { parseAllowed } from '../../core/allowed-address.js';
import { driverOf } from '../../core/drivers/index.js';
import { failedPrecondition, notFound } from '../../core/errors.js';
import { checkLabels } from '../../core/labels.js';
import type { Endpoint } from '../../core/records.js';
import type { UpdateEndpointRequest } from '../../proto/gen/weft/v1/agent.js';
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
import type { Kernel } from '../kernel/index.js';
import type { Memberships } from '../networks/index.js';
import type { Policies } from '../policy/index.js';
import type { AgentMetrics } from '../health/index.js';
import type { Reconciler } from '../reconcile/index.js';
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
  reconciler: Pick<Reconciler, 'obstacles' | 'lacks'>;
  kernel: { readonly firewall: Pick<Kernel['firewall'], 'losses'> };
  policies: Pick<Policies, 'denials'>;
  attacher: Attacher;
  endpoints: Endpoints;
  endpointPorts: EndpointPorts;
  ports: PublishedPorts;
  containers: Containers;
  attachments: Attachments;
  dns: Dns;
  metrics: AgentMetrics;
  status: AgentApi['status'];
  access: AgentApi['access'];
  /** Called after a change. */
  changed: () => void;
}

export function agentApi(options: AgentApiOptions): AgentApi {
  const {
    store,
    memberships,
    endpoints,
    kernel,
    policies,
    attacher,
    containers,
    attachments,
    dns,
    metrics,
    status,
    access,
    changed,
  } = options;
  return {
    attach: async (message, signal) => {
      const end = metrics.attachSeconds.startTimer();
      try {
        const endpoint = await attacher.attach(parseAttach(message), { signal });
        containers.attached(message, endpoint);
        end({ result: 'done' });
        changed();
        return { ...endpointMessage(endpoint, memberships), warnings: warningsOf(options, endpoint.network) };
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
    updateEndpoint: async ({ id, ...change }) => {
      found(endpoints, id);
      await endpoints.describe(id, (endpoint) => changeOf(endpoint, change));
      changed();
      return endpointMessage(found(endpoints, id), memberships);
    },
    inspectEndpoint: (message) => {
      const endpoint = found(endpoints, message.id);
      const denied = policies
        .denials()
        .filter((one) => one.endpoint === endpoint.id)
        .map(({ policy, packets }) => ({
          reason: policy === undefined ? 'isolated network' : `policy ${policy}`,
          packets,
        }));
      const drops = [...kernel.firewall.losses(endpoint.hostIfname), ...denied];
      return Promise.resolve({ ...endpointMessage(endpoint, memberships), drops });
    },
    pipework: async (message, signal) =>
      attachmentMessage(await attachments.attach(parsePipeworkAttach(message), signal)),
    listPipework: () => ({ attachments: attachments.list().map(attachmentMessage) }),
    pipeworkDetach: async (message, signal) =>
      attachmentMessage(await attachments.detach(parsePipeworkDetach(message), signal)),
    findContainer: async ({ target }) => ({
      endpoints: (await attacher.endpointsOf(target)).map(({ id }) => id),
    }),
    status,
    access,
    names: nameApi({ dns, store, networks: () => memberships.list().map(({ network }) => network.name) }),
    ...portApi(options),
  };
}

/** @throws WeftError INVALID_ARGUMENT; FAILED_PRECONDITION for labels that are its manager's */
function changeOf(endpoint: Endpoint, change: Omit<UpdateEndpointRequest, 'id'>): Partial<Endpoint> {
  const { allowedAddresses, keepAllowedAddresses, labels, removedLabels } = change;
  const isLabelled = Object.keys(labels).length + removedLabels.length > 0;
  if (isLabelled && endpoint.manager === 'docker')
    throw failedPrecondition(
      `endpoint ${endpoint.name}: its labels are those of Docker's container`,
      'Give them to docker run --label, or in the Compose file.',
    );
  const gone = new Set(removedLabels);
  const kept = Object.entries(endpoint.labels ?? {}).filter(([key]) => !gone.has(key));
  return {
    ...(!keepAllowedAddresses && { allowedAddresses: parseAllowed(allowedAddresses) }),
    ...(isLabelled && { labels: checkLabels({ ...Object.fromEntries(kept), ...labels }) }),
  };
}

/** @throws WeftError NOT_FOUND */
function found(endpoints: Endpoints, id: string): Endpoint {
  const endpoint = endpoints.get(id);
  if (endpoint !== undefined) return endpoint;
  throw notFound(`endpoint ${id}: it is not on this node any more`, 'See weft endpoint ls.');
}

/** What of a network does not work on this node although a container is attached to it, and the next step. */
function warningsOf(
  { memberships, reconciler }: Pick<AgentApiOptions, 'memberships' | 'reconciler'>,
  name: string,
): string[] {
  const membership = memberships.get(name);
  if (membership === undefined) return [];
  const driver = driverOf(membership.network);
  const what = reconciler.lacks(driver.tunnels(membership))
    ? `network ${name} has no tunnel on this node, and reaches no other node`
    : `network ${name} is not complete on this node`;
  return reconciler
    .obstacles(driver.links(membership))
    .map(({ what: which, why, fix }) => `${what}: ${which}: ${why}. ${fix}`);
}
