// Attached containers in etcd.
//
// A requested name has an index key of its own, written in the same transaction, so that no two endpoints of a network can
// have it, in whatever order they write. A node that is gone for good keeps no name: whoever asks for one takes it over.
import type { IKeyValue } from 'etcd3';

import { alreadyExists, notFound, unavailable } from '../core/errors.js';
import type { Endpoint } from '../core/records.js';
import { DisplacedNodes } from './displaced-nodes.js';
import { decodeEndpoint, encodeEndpoint } from './record-codec.js';
import { UnreadableError } from '../core/parse.js';
import {
  absent,
  get,
  holds,
  keyAt,
  present,
  put,
  read,
  remove,
  unchanged,
  type Context,
} from './transaction.js';

const ATTEMPTS = 5;

export async function putEndpoint(
  context: Context,
  endpoint: Endpoint,
  { unique }: { unique: boolean },
): Promise<void> {
  const { client, keys, replica } = context;
  const { network, id, name } = endpoint;
  const config = keys.config(network);
  const nameKey = keys.endpointName(network, name);
  const isGone = (other: Endpoint): boolean =>
    other.node !== endpoint.node && new DisplacedNodes(replica.view).isGone(other.node);
  if (unique) {
    // Names that were only taken over have no index key; they are found in the view.
    for (const other of replica.view.endpoints.get(network)?.values() ?? []) {
      if (other.name === name && other.id !== id && !isGone(other)) throw nameTaken(endpoint, other);
    }
  }
  const record = put(keys.endpoint(network, id), encodeEndpoint(endpoint));
  let index: IKeyValue | undefined;
  /** The holder of the name, a gone node; the view may lag behind its return. */
  let gone: string | undefined;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const { succeeded, responses } = await client.txn({
      compare: [
        present(config),
        ...(unique ? [index ? unchanged(nameKey, index.mod_revision) : absent(nameKey)] : []),
        ...(gone === undefined ? [] : [absent(keys.alive(gone))]),
      ],
      success: [record, ...(unique ? [put(nameKey, id)] : [])],
      failure: [get(config), get(nameKey)],
    });
    if (succeeded) return;
    if (keyAt(responses, 0) === undefined) {
      throw notFound(
        `network ${network} does not exist any more`,
        'It was removed; create it again with weft network create.',
      );
    }
    index = keyAt(responses, 1);
    const holder = index?.value.toString();
    gone = undefined;
    if (holder === undefined || holder === id) continue;
    const other = await readEndpoint(context, network, holder);
    // An index key without its endpoint was left by a record deleted by hand.
    if (other === undefined) continue;
    if (!isGone(other)) throw nameTaken(endpoint, other);
    gone = other.node;
  }
  throw unavailable(`network ${network}: the name ${name} keeps changing its owner`, 'Try again.');
}

function nameTaken(endpoint: Endpoint, other: Pick<Endpoint, 'id' | 'node' | 'target'>): Error {
  return alreadyExists(
    `network ${endpoint.network}: the name ${endpoint.name} belongs to endpoint ${other.id} (${other.target} on node ${other.node})`,
    'Choose another name, or detach that one first.',
  );
}

async function readEndpoint(
  { client, keys }: Context,
  network: string,
  id: string,
): Promise<Endpoint | undefined> {
  const kv = await read(client, keys.endpoint(network, id));
  if (kv === undefined) return undefined;
  try {
    return decodeEndpoint({ kind: 'endpoint', network, id }, kv.value.toString());
  } catch (error) {
    if (!(error instanceof UnreadableError)) throw error;
    const unknown = 'unknown (its record cannot be read)';
    return { id, network, node: unknown, target: unknown } as Endpoint;
  }
}

/** Deletes the name as well, unless another endpoint has it. An absent endpoint is no error. */
export async function deleteEndpoint(context: Context, network: string, id: string): Promise<void> {
  const { client, keys, replica } = context;
  const known = replica.view.endpoints.get(network)?.get(id) ?? (await readEndpoint(context, network, id));
  if (known === undefined) return;
  const endpoint = keys.endpoint(network, id);
  const name = keys.endpointName(network, known.name ?? '');
  await client.txn({
    compare: [holds(name, id)],
    success: [remove(endpoint), remove(name)],
    failure: [remove(endpoint)],
  });
}
