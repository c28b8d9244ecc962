// weft node ls | inspect | rm | rotate-key
import type { Command } from 'commander';

import { Node } from '../../proto/gen/weft/v1/types.js';
import { name as nameOf, names } from '../checks.js';
import { READ_MS, WRITE_MS, type Connector } from '../connect.js';
import { listOf } from '../context.js';
import { inspectAll } from '../inspect-all.js';
import { lists } from '../lists.js';
import type { Action } from '../action.js';
import { block, listing, relative, type Result } from '../output.js';
import { nodeShape } from '../shapes.js';
import { withEvents } from './events.js';
import { problemLines } from '../problem-lines.js';
import { rotateKeyCommand } from './rotate-key.js';

export function nodeCommands(program: Command, action: Action): void {
  const node = program.command('node').description('show and remove nodes, and change their keys');

  lists(node.command('ls'), nodeShape(Node.fromPartial({})))
    .alias('list')
    .description('list nodes')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const { nodes } = await connect.controller('NodeService', (client) => client.listNodes, {}, READ_MS);
        return nodeList(nodes);
      }),
    );

  node
    .command('inspect')
    .description('show one node')
    .argument('<name...>', 'its name', names('name'))
    .action(
      action(
        async ({ connect }, _words, _options, [names]): Promise<Result> =>
          await inspectAll(listOf(names), (name) => inspectNode(connect, name)),
      ),
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

export async function inspectNode(connect: Connector, name: string): Promise<Result> {
  const found = await connect.controller('NodeService', (client) => client.getNode, { name }, READ_MS);
  return await withEvents(connect, ['node', name], {
    value: nodeShape(found),
    text: () => nodeBlock(found),
  });
}

const nodeList = (nodes: readonly Node[]): Result =>
  listing(nodes, {
    shape: nodeShape,
    name: ({ name }) => name,
    columns: {
      NAME: ({ name }) => name,
      STATE: ({ state }) => state,
      SINCE: ({ since }) => relative(since),
      'PUBLIC IP': ({ publicIp }) => publicIp,
      NETWORKS: ({ networks }) => networks.join(','),
      ENDPOINTS: ({ endpoints }) => endpoints,
      PROBLEMS: ({ problems }) => problems.length,
      VERSION: ({ version }) => version,
    },
    wide: {
      'PUBLIC IP6': ({ publicIp6 }) => publicIp6 ?? '',
      'LAST SEEN': ({ lastSeen }) => relative(lastSeen),
      WHY: ({ why }) => why ?? '',
    },
  });

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
