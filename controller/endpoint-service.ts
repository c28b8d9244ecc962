// EndpointService: list, watch and inspect endpoints; attach and detach through a node's session.
import { parseAllowed } from '../core/allowed-address.js';
import { checkLabels } from '../core/labels.js';
import { failedPrecondition, invalidArgument, notFound, unavailable } from '../core/errors.js';
import type { Endpoint as EndpointRecord } from '../core/records.js';
import { unary } from '../daemon/grpc.js';
import type { EndpointEvent, EndpointServiceServer } from '../proto/gen/weft/v1/controller.js';
import { Endpoint } from '../proto/gen/weft/v1/types.js';
import type { Store } from '../store/store.js';
import { unservedConfig } from '../store/unserved.js';
import { endpointMessage, type Sources } from './messages.js';
import { unknownNetwork } from './unknown-network.js';
import type { Registry } from './registry.js';
import { checkAttach } from './requests.js';
import type { Sessions } from './sessions.js';
import { waitForSync } from './wait-for-sync.js';
import { DELETE, PUT, serveWatch, SYNCED } from './watch.js';

/** Milliseconds to wait for a node's counters. */
const DROPS_MS = 1000;

/** How many matches an error about an ambiguous word names. */
const NAMED = 5;

export function endpointService(options: {
  sources: Sources;
  registry: Registry;
  sessions: Sessions;
}): EndpointServiceServer {
  const { sources, registry, sessions } = options;
  const { store } = sources;

  const requireReachable = (node: string): void => {
    if (!store.view.nodes.has(node)) throw registry.unknown(node);
    if (registry.isUp(node) || sessions.has(node)) return;
    throw unavailable(
      `node ${node}: is down, so nothing can be done on it`,
      `Start its agent; if the node is gone for good, weft node rm ${node} frees what it had.`,
    );
  };

  /** What only its node knows; none where the node does not answer soon. */
  const dropsOf = async ({ id, node }: EndpointRecord, signal: AbortSignal): Promise<Endpoint['drops']> => {
    if (!sessions.has(node)) return [];
    const soon = AbortSignal.any([signal, AbortSignal.timeout(DROPS_MS)]);
    try {
      return (await sessions.request(node, { $case: 'inspect', value: { id } }, soon)).drops;
    } catch {
      return [];
    }
  };

  return {
    createEndpoint: unary(async ({ node, attach }, { signal }) => {
      if (node === '')
        throw invalidArgument('node: not given', 'Give the name of the node that the container is on.');
      if (attach === undefined)
        throw invalidArgument('attach: not given', 'Say what to attach, and to which network.');
      checkAttach(attach);
      await waitForSync(store);
      requireReachable(node);
      if (!store.view.networks.has(attach.network)) throw unknownNetwork(store, attach.network);
      return sessions.request(node, { $case: 'attach', value: attach }, signal);
    }),

    getEndpoint: unary(async ({ id }, { signal }) => {
      await waitForSync(store);
      const found = findEndpoint(store, id);
      const message = endpointMessage(sources, found);
      return { ...message, drops: await dropsOf(found, signal) };
    }),

    updateEndpoint: unary(async ({ id, ...change }, { signal }) => {
      parseAllowed(change.allowedAddresses);
      checkLabels(change.labels);
      await waitForSync(store);
      const { id: whole, node } = findEndpoint(store, id);
      requireReachable(node);
      return sessions.request(node, { $case: 'update', value: { id: whole, ...change } }, signal);
    }),

    listEndpoints: unary(async (filter) => {
      await waitForSync(store);
      if (filter.network !== '' && !hasEndpoints(store, filter.network))
        throw unknownNetwork(store, filter.network);
      if (filter.node !== '' && !store.view.nodes.has(filter.node)) throw registry.unknown(filter.node);
      const found = [...allEndpoints(store, filter.network)].filter((endpoint) => fits(endpoint, filter));
      return { endpoints: found.toSorted(inOrder).map((endpoint) => endpointMessage(sources, endpoint)) };
    }),

    deleteEndpoint: unary(async ({ id }, { signal }) => {
      await waitForSync(store);
      const { node, network, target } = findEndpoint(store, id);
      requireReachable(node);
      await sessions.request(node, { $case: 'detach', value: { network, target } }, signal);
      return {};
    }),

    watchEndpoints: (call) => {
      const filter = call.request;
      serveWatch<EndpointEvent>(call, {
        keys: () =>
          [...allEndpoints(store, filter.network)]
            .filter((endpoint) => fits(endpoint, filter))
            .toSorted(inOrder)
            .map(({ network, id }) => keyOf(network, id)),
        put: (key) => {
          const [network = '', id = ''] = key.split('/');
          const endpoint = store.view.endpoints.get(network)?.get(id);
          return endpoint === undefined || !fits(endpoint, filter)
            ? undefined
            : { type: PUT, endpoint: endpointMessage(sources, endpoint) };
        },
        gone: (key) => ({ type: DELETE, endpoint: Endpoint.fromPartial({ id: key.split('/')[1] ?? '' }) }),
        synced: () => ({ type: SYNCED, endpoint: undefined }),
        subscribe: (listener) =>
          store.subscribe((changes) =>
            listener(
              changes.flatMap((change) =>
                change.kind === 'endpoint' ? [keyOf(change.network, change.id)] : [],
              ),
            ),
          ),
        gatherMs: 0,
        ready: () => waitForSync(store),
      });
    },
  };
}

// The network comes first, so that a watch finds one endpoint without a search.
const keyOf = (network: string, id: string): string => `${network}/${id}`;

const fits = (endpoint: EndpointRecord, filter: { network: string; node: string }): boolean =>
  (filter.network === '' || endpoint.network === filter.network) &&
  (filter.node === '' || endpoint.node === filter.node);

const inOrder = (a: EndpointRecord, b: EndpointRecord): number => compare(sortKey(a), sortKey(b));
const sortKey = ({ network, name, id }: EndpointRecord): string => `${network}\0${name}\0${id}`;
const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** A network that is not served may have endpoints, which must be found to be detached. */
const hasEndpoints = ({ view }: Store, network: string): boolean =>
  view.networks.has(network) || view.endpoints.has(network) || unservedConfig(view, network) !== undefined;

function* allEndpoints(store: Store, network = ''): Iterable<EndpointRecord> {
  if (network !== '') {
    yield* store.view.endpoints.get(network)?.values() ?? [];
    return;
  }
  for (const endpoints of store.view.endpoints.values()) yield* endpoints.values();
}

/** By full id, then by a unique name, then by a prefix of an id, in Docker's order. */
function findEndpoint(store: Store, text: string): EndpointRecord {
  if (text === '') throw invalidArgument('id: not given', 'Give an id, the beginning of one, or a name.');
  const all = [...allEndpoints(store)];
  const whole = all.find(({ id }) => id === text);
  if (whole !== undefined) return whole;
  for (const matches of [
    all.filter(({ name }) => name === text),
    all.filter(({ id }) => id.startsWith(text)),
  ]) {
    const [first, ...others] = matches;
    if (first === undefined) continue;
    if (others.length === 0) return first;
    const named = matches
      .toSorted(inOrder)
      .slice(0, NAMED)
      .map(({ id, name, network }) => `${id} (${name} of ${network})`);
    throw failedPrecondition(
      `endpoint ${text}: ${matches.length} endpoints match: ${named.join(', ')}${matches.length > NAMED ? ', …' : ''}`,
      'Give more of the id.',
    );
  }
  throw notFound(`endpoint ${text}: there is no such endpoint`, 'See weft endpoint ls.');
}
