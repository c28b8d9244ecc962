// What a controller writes for nodes: configs of networks that are not there, and removals that harm no other node.
import { isRemovedOne } from '../core/lost-records.js';
import { failedPrecondition, invalidArgument, notFound, permissionDenied } from '../core/errors.js';
import { UnreadableError } from '../core/parse.js';
import type { Network, Removal } from '../core/records.js';
import { decodeLease } from './lease-codec.js';
import { decodeConfig } from './network-codec.js';
import type { NetworkWriter } from './network-writer.js';
import { createNetworkOf, removeNetwork, writeBack } from './networks.js';
import { decodeRemoval } from './record-codec.js';
import { provenRevisions } from './removal-proof.js';
import { repeatRemoval } from './removals.js';
import { read, type Context } from './transaction.js';

/** @param node who asks; undefined: somebody who may write leases of any node */
export function networkWriterOf(context: Context, node?: string): NetworkWriter {
  return {
    create: async (name, config) => void (await createNetworkOf(context, readConfig(name, config))),
    restore: async (lost) => {
      readConfig(lost.name, lost.config);
      if (lost.lease !== undefined) checkLease(context, lost.name, lost.lease, node);
      return await writeBack(context, lost);
    },
    removeUnused: async (name) => {
      const network = context.replica.view.networks.get(name);
      // One that cannot be read is somebody else's, a flannel network for one.
      if (network === undefined) throw notFound(`network ${name}: there is none that weft serves`);
      if (network.madeBy === undefined)
        throw failedPrecondition(
          `network ${name}: no plugin made it, so it stays when its last node leaves`,
          `Remove it where somebody is an administrator: weft network rm ${name}.`,
        );
      await removeNetwork(context, name, { force: false, unleased: true });
    },
    removeAgain: async (name, tombstone) => {
      const removal = readable(() => decodeRemoval('network', name, tombstone), `tombstone of ${name}`);
      return await repeatProven(context, removal);
    },
  };
}

function readable<T>(decode: () => T, what: string): T {
  try {
    return decode();
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    throw invalidArgument(`${what}: ${error.message}`, undefined, { cause: error });
  }
}

const readConfig = (name: string, config: string): Network =>
  readable(() => decodeConfig(name, config), `config of network ${name}`);

/** @throws WeftError INVALID_ARGUMENT; PERMISSION_DENIED for a lease of another node */
function checkLease(
  { keys }: Context,
  network: string,
  { key, value }: { key: string; value: string },
  node: string | undefined,
): void {
  const parsed = keys.parse(key);
  if (parsed.kind !== 'lease' || parsed.network !== network)
    throw invalidArgument(`lease: ${key} is no key of a lease in network ${network}`);
  const lease = readable(() => decodeLease(parsed, value, '1'), 'lease');
  if (node === undefined || lease.node === node) return;
  throw permissionDenied(`lease: it is of node ${lease.node ?? 'unknown'}, and node ${node} asks`);
}

/** @throws WeftError PERMISSION_DENIED where no controller of this cluster made the tombstone */
async function repeatProven(context: Context, removal: Removal): Promise<boolean> {
  const { client, keys } = context;
  const { name, at } = removal;
  const deleted = provenRevisions(context, removal);
  if (deleted === undefined)
    throw permissionDenied(
      `network ${name}: nothing proves that it was removed at ${at}`,
      `If it was, remove it again: weft network rm ${name}.`,
    );
  const key = keys.config(name);
  const there = await read(client, key);
  const isAgain =
    there !== undefined &&
    isRemovedOne({ createRevision: there.create_revision, modRevision: there.mod_revision }, deleted);
  return await repeatRemoval(context, { removal, key, ...(isAgain && { revision: there.mod_revision }) });
}
