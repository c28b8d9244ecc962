// Changes to an existing network, by compare and swap on its config.
//
// Concurrent changes all take effect, and fields of the config that weft does not know are kept.
import { notFound, unavailable } from '../core/errors.js';
import type { Network } from '../core/network.js';
import { decodeConfig, editConfig } from './network-codec.js';
import { UnreadableError } from '../core/parse.js';
import type { NetworkChange } from './store.js';
import { notServed } from './unserved.js';
import { put, read, unchanged, type Context } from './transaction.js';

const ATTEMPTS = 10;

export async function updateNetwork(context: Context, name: string, change: NetworkChange): Promise<Network> {
  const { client, keys, replica } = context;
  const config = keys.config(name);
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const there = await read(client, config);
    if (there === undefined) {
      throw notFound(`network ${name}: there is no such network`, 'See which do: weft network ls.');
    }
    const value = there.value.toString();
    const edited = changed(name, config, value, change);
    if (edited === undefined) return decodeConfig(name, value);
    const { succeeded, header } = await client.txn({
      compare: [unchanged(config, there.mod_revision)],
      success: [put(config, edited)],
      failure: [],
    });
    if (!succeeded) continue;
    await replica.reached(Number(header.revision));
    return replica.view.networks.get(name) ?? decodeConfig(name, edited);
  }
  throw unavailable(`network ${name}: its config keeps changing`, 'Try again in a moment.');
}

/** The new config; undefined if it equals the old one. */
function changed(name: string, key: string, value: string, change: NetworkChange): string | undefined {
  try {
    const network = decodeConfig(name, value);
    const before = network.routes ?? [];
    const gone = new Set(change.removeRoutes);
    const routes = [...new Set([...before, ...(change.addRoutes ?? [])])].filter((other) => !gone.has(other));
    const masquerade = change.masquerade ?? network.masquerade;
    const sameRoutes = routes.join() === before.join();
    if (sameRoutes && masquerade === network.masquerade) return undefined;
    return editConfig(name, value, {
      ...(masquerade === network.masquerade ? {} : { masquerade }),
      ...(sameRoutes ? {} : { routes }),
    });
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    throw notServed(name, { key, why: error.message }, { cause: error });
  }
}
