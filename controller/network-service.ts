// NetworkService: create, list, inspect, remove and watch networks.
import { WeftError } from '../core/errors.js';
import { unary } from '../daemon/grpc.js';
import { Network, type Network as NetworkMessage } from '../proto/gen/weft/v1/types.js';
import type { NetworkEvent, NetworkServiceServer } from '../proto/gen/weft/v1/controller.js';
import { networkOf } from '../core/drivers/index.js';
import type { Change } from '../store/store.js';
import { checkCapability, reportsOfLiving } from './capability-check.js';
import { forgetRoutes, networkChanges } from './network-changes.js';
import { leasesOf, networkMessage, type Sources } from './messages.js';
import { parseCreateNetwork } from './requests.js';
import { waitForSync } from './wait-for-sync.js';
import { unknownNetwork } from './unknown-network.js';
import { DELETE, PUT, serveWatch, SYNCED } from './watch.js';

/** A network's message has all its leases: a burst of changes becomes one event. */
const GATHER_MS = 100;

export function networkService(sources: Sources): NetworkServiceServer {
  const { store, leaseTimes } = sources;

  const find = async (name: string): Promise<NetworkMessage | undefined> => {
    await leaseTimes.refresh(leasesOf(store, name));
    const network = store.view.networks.get(name);
    return network === undefined ? undefined : networkMessage(sources, network);
  };

  return {
    createNetwork: unary(async (request) => {
      const spec = parseCreateNetwork(request);
      await waitForSync(store);
      checkCapability(networkOf(spec), reportsOfLiving(sources));
      return networkMessage(sources, await store.createNetwork(spec));
    }),

    getNetwork: unary(async ({ name }) => {
      await waitForSync(store);
      const network = await find(name);
      if (network === undefined) throw unknownNetwork(store, name);
      return network;
    }),

    listNetworks: unary(async () => {
      await waitForSync(store);
      const names = [...store.view.networks.keys()].toSorted();
      await leaseTimes.refresh(names.flatMap((name) => leasesOf(store, name)));
      const networks = names.flatMap((name) => {
        const network = store.view.networks.get(name);
        return network === undefined ? [] : [networkMessage(sources, network)];
      });
      return { networks };
    }),

    deleteNetwork: unary(async ({ name, force }) => {
      await waitForSync(store);
      // A network whose config cannot be read has no entry, but the store can remove it by its name.
      await store.removeNetwork(name, { force }).catch((error: unknown) => {
        throw error instanceof WeftError && error.code === 'NOT_FOUND' ? unknownNetwork(store, name) : error;
      });
      await forgetRoutes(store, name);
      return {};
    }),

    ...networkChanges(sources),

    watchNetworks: (call) => {
      serveWatch<NetworkEvent>(call, {
        keys: () => [...store.view.networks.keys()].toSorted(),
        put: async (name) => {
          const network = await find(name);
          return network === undefined ? undefined : { type: PUT, network };
        },
        gone: (name) => ({ type: DELETE, network: Network.fromPartial({ name }) }),
        synced: () => ({ type: SYNCED, network: undefined }),
        subscribe: (listener) => store.subscribe((changes) => listener(changes.flatMap(networksIn))),
        gatherMs: GATHER_MS,
        ready: () => waitForSync(store),
      });
    },
  };
}

function networksIn(change: Change): string[] {
  if (change.kind === 'network') return [change.name];
  return change.kind === 'lease' || change.kind === 'endpoint' ? [change.network] : [];
}
