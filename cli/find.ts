// What a word on the command line means: an endpoint or a node of the cluster.
import { find, type Found } from '../core/find.js';
import type { Endpoint, Node } from '../proto/gen/weft/v1/types.js';
import { READ_MS, type Connector } from './connect.js';
import { unknownPlace } from '../daemon/unknown.js';
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

/** How long this host's agent may take to say whether a word is a container of its own. */
const HERE_MS = 1000;

/** Ids of the endpoints of what a word means as a container of this host; without an agent it means none. */
export async function endpointsHere(connect: Connector, target: string): Promise<string[]> {
  try {
    return (await connect.agent('AgentService', (client) => client.findContainer, { target }, HERE_MS))
      .endpoints;
  } catch {
    return [];
  }
}

/** What both words of a question to the controller mean on this host. */
export async function bothHere(
  connect: Connector,
  from: string,
  to: string,
): Promise<{ fromHere: string[]; toHere: string[] }> {
  const [fromHere, toHere] = await Promise.all([endpointsHere(connect, from), endpointsHere(connect, to)]);
  return { fromHere, toHere };
}

/** How many matches an error about an ambiguous word names. */
const NAMED = 10;

/**
 * @param networks names of those that it may mean besides, where it may mean any
 * @throws ExitError 2 where it means several things; WeftError NOT_FOUND where it means none
 */
export async function findOne(
  connect: Connector,
  word: string,
  cluster: Cluster,
  networks?: readonly string[],
): Promise<Found<Endpoint>> {
  const [first, ...others] = find(word, cluster, await endpointsHere(connect, word));
  if (first === undefined) throw unknownPlace(word, { ...cluster, networks });
  const beside = networks?.includes(word) === true ? [`network ${word} (weft network inspect ${word})`] : [];
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
