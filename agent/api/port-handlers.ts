// Handlers for published ports: publish, unpublish and list.
import { failedPrecondition, invalidArgument, notFound } from '../../core/errors.js';
import { parseNetworkName } from '../../core/network.js';
import { matchesFilter, parsePublishedFilter } from '../../core/publish.js';
import { bareIn } from '../../core/families.js';
import type { Endpoint, PublishedPort } from '../../core/records.js';
import type {
  ListPortsRequest,
  ListPortsResponse,
  OpenPort,
  PublishPortsRequest,
  PublishPortsResponse,
  UnpublishPortsRequest,
  UnpublishPortsResponse,
} from '../../proto/gen/weft/v1/agent.js';
import type { Store } from '../../store/store.js';
import {
  type EndpointPorts,
  type Endpoints,
  parsePublishes,
  type PublishedPorts,
} from '../endpoints/index.js';
import { lookThrough } from '../networks/index.js';
import { canonicalForms } from '../targets/index.js';

export interface PortApiOptions {
  endpoints: Endpoints;
  endpointPorts: EndpointPorts;
  ports: PublishedPorts;
  store: Store;
  /** Called after a change. */
  changed: () => void;
}

export interface PortApi {
  publishPorts(request: PublishPortsRequest, signal: AbortSignal): Promise<PublishPortsResponse>;
  unpublishPorts(request: UnpublishPortsRequest, signal: AbortSignal): Promise<UnpublishPortsResponse>;
  listPorts(request: ListPortsRequest): Promise<ListPortsResponse>;
}

export function portApi({ endpoints, endpointPorts, ports, store, changed }: PortApiOptions): PortApi {
  const find = (word: string, network: string): Promise<Endpoint> =>
    meant(endpoints.list(), store, word, network);
  return {
    publishPorts: async ({ endpoint: word, network, publish, everywhere }, signal) => {
      const parsed = parsePublishes(publish, everywhere);
      if (parsed.publish.length === 0) throw invalidArgument('publish: not given', 'Give at least one port.');
      const endpoint = await find(word, network);
      const made = await endpointPorts.publish(endpoint.id, parsed, { signal });
      changed();
      return { ports: made.map((published) => openPort(endpoint, published)) };
    },
    unpublishPorts: async ({ endpoint: word, network, ports: texts, all }, signal) => {
      const filters = texts.map(parsePublishedFilter);
      if (!all && filters.length === 0)
        throw invalidArgument('ports: not given', 'Name them, or ask for all.');
      const endpoint = await find(word, network);
      const gone = await endpointPorts.unpublish(
        endpoint.id,
        (published) => all || filters.some((filter) => matchesFilter(published, filter)),
        signal,
      );
      changed();
      return { ports: gone.map((published) => openPort(endpoint, published)) };
    },
    listPorts: async ({ endpoint: word }) => {
      const known = (id: string, network: string): Endpoint | undefined =>
        endpoints.get(id) ?? store.view.endpoints.get(network)?.get(id);
      const found = [...ports.list()].flatMap(({ holder, published, problem }) => {
        const endpoint = known(holder.id, holder.network);
        return endpoint === undefined || (word !== '' && !isNamed(endpoint, word))
          ? []
          : [openPort(endpoint, published, problem)];
      });
      if (found.length === 0 && word !== '') await find(word, '');
      return { ports: found.toSorted(byPort) };
    },
  };
}

function byPort({ publish: a }: OpenPort, { publish: b }: OpenPort): number {
  const textOf = (port: typeof a): string => `${port?.protocol} ${port?.hostIp}`;
  return (a?.hostPort ?? 0) - (b?.hostPort ?? 0) || (textOf(a) < textOf(b) ? -1 : 1);
}

const openPort = (endpoint: Endpoint, publish: PublishedPort, problem = ''): OpenPort => ({
  publish,
  endpoint: endpoint.id,
  name: endpoint.name,
  network: endpoint.network,
  node: endpoint.node,
  ip: bareIn(endpoint, 4) ?? '',
  ip6: bareIn(endpoint, 6),
  problem,
});

/** The shortest id prefix that is not mistaken for a name. */
const SHORTEST_ID = 4;

function isNamed(endpoint: Endpoint, word: string): boolean {
  return (
    endpoint.name === word ||
    endpoint.aliases.includes(word) ||
    (word.length >= SHORTEST_ID && endpoint.id.startsWith(word)) ||
    formsOf(word).includes(endpoint.target)
  );
}

/** A word that is no valid target can still be an endpoint's name. */
function formsOf(word: string): readonly string[] {
  try {
    return canonicalForms(word);
  } catch {
    return [];
  }
}

/** An endpoint of another node, in this network or, if it is empty, in any; undefined also where etcd does not answer. */
async function elsewhere(
  store: Store,
  network: string,
  fits: (endpoint: Endpoint) => boolean,
): Promise<Endpoint | undefined> {
  const { networks, endpoints } = store.view;
  const look = (name: string): Endpoint | undefined => [...(endpoints.get(name)?.values() ?? [])].find(fits);
  const names = [...networks.keys()].filter((name) => network === '' || name === network);
  const followed = names.filter((name) => store.follows(name)).flatMap((name) => look(name) ?? []);
  if (followed.length > 0 || !store.state.connected) return followed[0];
  return await lookThrough(store, names, look).catch(() => undefined);
}

/** @throws WeftError NOT_FOUND; FAILED_PRECONDITION where the word matches several endpoints, or one of another node */
async function meant(
  local: readonly Endpoint[],
  store: Store,
  word: string,
  network: string,
): Promise<Endpoint> {
  if (word === '') throw invalidArgument('endpoint: not given', 'Give its name or id, or the container.');
  if (network !== '') parseNetworkName(network);
  const fits = (endpoint: Endpoint): boolean =>
    (network === '' || endpoint.network === network) && isNamed(endpoint, word);
  const found = local.filter(fits);
  const exact = found.filter(({ id, name }) => id === word || name === word);
  // A container on several networks: those that a port can be published to.
  const open = found.filter((endpoint) => store.view.networks.get(endpoint.network)?.internal !== true);
  for (const some of [found, exact, open]) if (some.length === 1 && some[0] !== undefined) return some[0];
  if (found.length > 1) {
    const names = found.map(
      (endpoint) => `${endpoint.id.slice(0, 12)} (${endpoint.name} on ${endpoint.network})`,
    );
    throw failedPrecondition(
      `${word} matches several: ${names.join(', ')}`,
      'Choose one with --network, or by its id.',
    );
  }
  const away = await elsewhere(store, network, fits);
  if (away !== undefined) {
    throw failedPrecondition(`endpoint ${away.name} is on node ${away.node}`, 'Ask the agent of that node.');
  }
  throw notFound(
    `${word} is not attached on this node${network === '' ? '' : ` to network ${network}`}`,
    'See `weft endpoint ls`.',
  );
}
