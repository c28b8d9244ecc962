// weft inspect: endpoints, nodes and networks by whatever they are called.
import type { Command } from 'commander';

import { find } from '../../core/find.js';
import type { Action } from '../action.js';
import { READ_MS, type Connector } from '../connect.js';
import { listOf } from '../context.js';
import { findOne, readCluster, type Cluster } from '../find.js';
import { inspectAll } from '../inspect-all.js';
import type { Result } from '../output.js';
import { inspectEndpoint } from './endpoint.js';
import { inspectNetwork } from './network.js';
import { inspectNode } from './node.js';

export function inspectCommand(program: Command, action: Action): void {
  program
    .command('inspect')
    .description('show endpoints, nodes or networks, by name, id, address, interface or TARGET')
    .argument('<place...>', 'what to show')
    .action(
      action(async ({ connect }, _words, _options, [words]): Promise<Result> => {
        const [cluster, { networks }] = await Promise.all([
          readCluster(connect),
          connect.controller('NetworkService', (client) => client.listNetworks, {}, READ_MS),
        ]);
        const names = networks.map(({ name }) => name);
        return await inspectAll(listOf(words), (word) => inspect(connect, word, cluster, names));
      }),
    );
}

async function inspect(
  connect: Connector,
  word: string,
  cluster: Cluster,
  networks: readonly string[],
): Promise<Result> {
  if (networks.includes(word) && find(word, cluster).length === 0) return await inspectNetwork(connect, word);
  const found = await findOne(connect, word, cluster, networks);
  return found.kind === 'node'
    ? await inspectNode(connect, found.node)
    : await inspectEndpoint(connect, found.endpoint.id);
}
