// Changes of existing networks: masquerading, and routes between two of them.
import { failedPrecondition, invalidArgument } from '../core/errors.js';
import { parseNetworkName, whyUnrouted, type Network as NetworkRecord } from '../core/network.js';
import { unary } from '../daemon/grpc.js';
import type { NetworkServiceServer } from '../proto/gen/weft/v1/controller.js';
import type { Network } from '../proto/gen/weft/v1/types.js';
import type { Store } from '../store/store.js';
import { unservedConfig } from '../store/unserved.js';
import { moveBackend } from './backend-move.js';
import { checkCapability, reportsOfLiving } from './capability-check.js';
import { leasesOf, networkMessage, type Sources } from './messages.js';
import { waitForSync } from './wait-for-sync.js';
import { unknownNetwork } from './unknown-network.js';

type Changes = Pick<NetworkServiceServer, 'updateNetwork' | 'routeNetworks'>;

export function networkChanges(sources: Sources): Changes {
  const { store } = sources;
  const find = (name: string): NetworkRecord => {
    const network = store.view.networks.get(parseNetworkName(name));
    if (network === undefined) throw unknownNetwork(store, name);
    return network;
  };

  const message = async (name: string): Promise<Network | undefined> => {
    await sources.leaseTimes.refresh(leasesOf(store, name));
    const network = store.view.networks.get(name);
    return network === undefined ? undefined : networkMessage(sources, network);
  };

  return {
    updateNetwork: unary(async ({ masquerade, portSecurity, directAccess, ...move }, { signal }) => {
      const { name } = move;
      const fields = {
        ...(masquerade !== undefined && { masquerade }),
        ...(portSecurity !== undefined && { portSecurity }),
        ...(directAccess !== undefined && { directAccess }),
      };
      const hasFields = Object.keys(fields).length > 0;
      if (!hasFields && move.backend === undefined) {
        throw invalidArgument(
          `network ${name}: nothing is to be changed`,
          'Give masquerade, port security, direct access or a backend.',
        );
      }
      await waitForSync(store);
      const network = find(name);
      if (move.backend !== undefined) {
        const checks = (target: NetworkRecord): void => checkCapability(target, reportsOfLiving(sources));
        await moveBackend(move, { store, checkCapability: checks, signal });
      }
      if (!hasFields) return (await message(name)) ?? networkMessage(sources, network);
      if (masquerade === true && network.internal) {
        throw failedPrecondition(
          `network ${name} is internal: no traffic leaves it`,
          'Create another network for containers that need the outside.',
        );
      }
      if (directAccess === true && network.internal) {
        throw failedPrecondition(
          `network ${name} is internal: nothing outside reaches it`,
          'Create another network for containers that are to be reached.',
        );
      }
      const changed = await store.updateNetwork(name, fields);
      return (await message(name)) ?? networkMessage(sources, changed);
    }),

    routeNetworks: unary(async ({ a, b, remove }) => {
      if (parseNetworkName(a) === parseNetworkName(b)) {
        throw invalidArgument(`network ${a} reaches itself anyway`, 'Name two networks.');
      }
      await waitForSync(store);
      if (remove) {
        // Either may name the other; one of them may be gone.
        if (!store.view.networks.has(a) && !store.view.networks.has(b))
          throw unknownNetwork(store, unservedConfig(store.view, b) === undefined ? a : b);
        for (const [one, other] of [
          [a, b],
          [b, a],
        ] as const) {
          if (store.view.networks.get(one)?.routes?.includes(other) === true) {
            await store.updateNetwork(one, { removeRoutes: [other] });
          }
        }
      } else {
        for (const network of [find(a), find(b)]) {
          const why = whyUnrouted(network);
          if (why === undefined) continue;
          throw failedPrecondition(
            `network ${network.name} ${why}`,
            'Attach the containers to both networks, or to a third one.',
          );
        }
        const other = find(b).routes?.includes(a) === true;
        if (!other) await store.updateNetwork(a, { addRoutes: [b] });
      }
      return { a: await message(a), b: await message(b) };
    }),
  };
}

/** A network was removed: a later one of its name must not inherit its routes. */
export async function forgetRoutes(store: Store, gone: string): Promise<void> {
  for (const { name, routes } of [...store.view.networks.values()]) {
    if (routes?.includes(gone) === true) await store.updateNetwork(name, { removeRoutes: [gone] });
  }
}
