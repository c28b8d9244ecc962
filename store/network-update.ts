// Changes to an existing network, by compare and swap on its config.
//
// Concurrent changes all take effect, and fields of the config that weft does not know are kept.
import { notFound, unavailable } from '../core/errors.js';
import type { Network } from '../core/network.js';
import { driverOf, isBridged } from '../core/drivers/index.js';
import { decodeConfig, editConfig, sameBackend, type ConfigChange } from './network-codec.js';
import { allocate } from './networks.js';
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
    const edited = changed(context, name, config, value, change);
    if (edited === undefined) return decodeConfig(name, value);
    const { succeeded, header } = await client.txn({
      compare: [unchanged(config, there.mod_revision)],
      // A network that is created meanwhile sees what this one takes.
      success: [put(config, edited), ...(change.move === undefined ? [] : [put(keys.allocated(), name)])],
      failure: [],
    });
    if (!succeeded) continue;
    await replica.reached(keys.config(name), Number(header.revision));
    return replica.view.networks.get(name) ?? decodeConfig(name, edited);
  }
  throw unavailable(`network ${name}: its config keeps changing`, 'Try again in a moment.');
}

/** The new config; undefined if it equals the old one. */
function changed(
  context: Context,
  name: string,
  key: string,
  value: string,
  change: NetworkChange,
): string | undefined {
  try {
    const network = decodeConfig(name, value);
    const before = network.routes ?? [];
    const gone = new Set(change.removeRoutes);
    const routes = [...new Set([...before, ...(change.addRoutes ?? [])])].filter((other) => !gone.has(other));
    const masquerade = change.masquerade ?? network.masquerade;
    const sameRoutes = routes.join() === before.join();
    const move = moveStep(context, network, change.move);
    const fields = {
      ...(masquerade === network.masquerade ? {} : { masquerade }),
      ...changedSecurity(network, change),
    };
    if (sameRoutes && Object.keys(fields).length === 0 && move === undefined) return undefined;
    return editConfig(name, value, {
      ...fields,
      ...(sameRoutes ? {} : { routes }),
      ...(move === undefined ? {} : { move }),
    });
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    throw notServed(name, { key, why: error.message }, { cause: error });
  }
}

function changedSecurity(
  network: Network,
  { portSecurity, directAccess, isolated }: NetworkChange,
): Pick<ConfigChange, 'portSecurity' | 'directAccess' | 'isolated'> {
  const isSecured = network.portSecurity !== false;
  return {
    ...(portSecurity === undefined || portSecurity === isSecured ? {} : { portSecurity }),
    ...(directAccess === undefined || directAccess === network.directAccess ? {} : { directAccess }),
    ...(isolated === undefined || isolated === (network.isolated ?? false) ? {} : { isolated }),
  };
}

/** The step that is still to be done; undefined: it is done. @throws WeftError FAILED_PRECONDITION, ALREADY_EXISTS */
function moveStep(context: Context, network: Network, move: NetworkChange['move']): ConfigChange['move'] {
  if (move === undefined || isBridged(network)) return undefined;
  const { beside } = network;
  if (move === 'end') return beside === undefined ? undefined : 'end';
  if ('flip' in move) return beside !== undefined && sameBackend(beside, move.flip) ? 'swap' : undefined;
  if (beside !== undefined) return undefined;
  const wanted = allocate(context, move.prepare);
  driverOf(wanted).checkBeside(wanted, context.replica.view.networks.values());
  return isBridged(wanted) ? undefined : { beside: wanted };
}
