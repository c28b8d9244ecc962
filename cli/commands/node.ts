// weft node ls | inspect | rm | rotate-key
import type { Command } from 'commander';

import type { Node } from '../../proto/gen/weft/v1/types.js';
import { name as nameOf } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import type { Action } from '../action.js';
import { block, relative, table, type Result } from '../output.js';
import { nodeShape } from '../shapes.js';
import { withEvents } from './events.js';
import { problemLines } from './problems.js';
import { rotateKeyCommand } from './rotate-key.js';

export function nodeCommands(program: Command, action: Action): void {
  const node = program.command('node').description('show and remove nodes, and change their keys');

  node
    .command('ls')
    .alias('list')
    .description('list nodes')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const { nodes } = await connect.controller('NodeService', (client) => client.listNodes, {}, READ_MS);
        return { value: nodes.map(nodeShape), text: () => nodeTable(nodes) };
      }),
    );

  node
    .command('inspect')
    .description('show one node')
    .argument('<name>', 'its name', nameOf())
    .action(
      action(async ({ connect }, [name]): Promise<Result> => {
        const found = await connect.controller('NodeService', (client) => client.getNode, { name }, READ_MS);
        return await withEvents(connect, ['node', name], {
          value: nodeShape(found),
          text: () => nodeBlock(found),
        });
      }),
    );

  node
    .command('rm')
    .alias('remove')
    .description('take a node out of the cluster, with its subnets and endpoints')
    .argument('<name>', 'its name', nameOf())
    .option('--force', 'although it is up')
    .action(
      action(async ({ connect }, [name], { force = false }: { force?: boolean }): Promise<Result> => {
        const { note } = await connect.controller(
          'NodeService',
          (client) => client.deleteNode,
          { name, force },
          WRITE_MS,
        );
        return {
          value: { name, note: note ?? null },
          text: () => [name, ...(note === undefined ? [] : [note])].join('\n'),
        };
      }),
    );

  rotateKeyCommand(node, action);
}

const nodeTable = (nodes: readonly Node[]): Promise<string> =>
  table(
    ['NAME', 'STATE', 'SINCE', 'PUBLIC IP', 'NETWORKS', 'ENDPOINTS', 'PROBLEMS', 'VERSION'],
    nodes.map((node) => [
      node.name,
      node.state,
      relative(node.since),
      node.publicIp,
      node.networks.join(','),
      node.endpoints,
      node.problems.length,
      node.version,
    ]),
  );

function nodeBlock(node: Node): string {
  const head = block([
    ['Name', node.name],
    ['State', [node.state, relative(node.since)].filter((part) => part !== '').join(', since ')],
    ['Why', node.why],
    ['Last seen', relative(node.lastSeen)],
    ['Public IP', [node.publicIp, node.publicIp6].filter((ip) => ip !== undefined).join(', ')],
    ['Version', node.version],
    ['Networks', node.networks.join(', ')],
    ['Endpoints', node.endpoints],
  ]);
  return [head, ...problemLines(node.problems)].join('\n');
}
