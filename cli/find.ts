// What a word on the command line means: an endpoint or a node of the cluster.
import { find, type Found } from '../core/find.js';
import type { Endpoint, Node } from '../proto/gen/weft/v1/types.js';
import { READ_MS, type Connector } from './connect.js';
import { ExitError } from './exit.js';
import { listNodes } from './nodes.js';

export interface Cluster {
  endpoints: Endpoint[];
  nodes: Node[];
}

export async function readCluster(connect: Connector): Promise<Cluster> {
  const everything = { network: '', node: '' };
  const [{ endpoints }, nodes] = await Promise.all([
    connect.controller('EndpointService', (client) => client.listEndpoints, everything, READ_MS),
    listNodes(connect),
  ]);
  return { endpoints, nodes };
}

/** How many matches an error about an ambiguous word names. */
const NAMED = 10;

/**
 * @param beside what else it may mean, for people
 * @throws ExitError 2 where it means several things, 1 where it means none
 */
export function findOne(word: string, cluster: Cluster, beside: readonly string[] = []): Found<Endpoint> {
  const [first, ...others] = find(word, cluster);
  if (first === undefined)
    throw new ExitError(
      'NOT_FOUND',
      1,
      `${word}: no endpoint, container or node is called so`,
      'See weft endpoint ls and weft node ls.',
    );
  if (others.length + beside.length === 0) return first;
  const all = [...beside, ...[first, ...others].map(nameOf)];
  const named = all.slice(0, NAMED).join(', ');
  throw new ExitError(
    'INVALID_ARGUMENT',
    2,
    `${word}: may be ${all.length} things: ${named}${all.length > NAMED ? ', …' : ''}`,
    'Give one of these, or an id.',
  );
}

/** By which `find` finds it again, as long as the name is the only one in its network. */
export const nameOf = (found: Found<Endpoint>): string =>
  found.kind === 'node'
    ? `node ${found.node}`
    : `${found.endpoint.name}.${found.endpoint.network} (${found.endpoint.id.slice(0, 12)}, on ${found.endpoint.node})`;
