// weft port publish | ls | rm
import type { Command } from 'commander';

import { invalidArgument } from '../../core/errors.js';
import { formatHostPort } from '../../core/publish.js';
import type { OpenPort } from '../../proto/gen/weft/v1/agent.js';
import { checkEverywhere } from '../attach-options.js';
import { networkName, published, publishes } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import { listOf } from '../context.js';
import type { Action } from '../action.js';
import { lists } from '../lists.js';
import { listing, type Result } from '../output.js';
import { openPortShape } from '../shapes.js';

const ENDPOINT = 'its name or id, or the container as it was attached';

export function portCommands(program: Command, action: Action): void {
  const port = program.command('port').description('open ports of this host that lead to its containers');

  port
    .command('publish')
    .description('open ports for a container that is attached')
    .argument('<endpoint>', ENDPOINT)
    .argument('<spec...>', '[HOSTIP:]HOSTPORT:PORT[/udp], PORT alone for a chosen one, ranges', publishes)
    .option('--network <name>', 'on which of its networks', networkName)
    .option('--everywhere', 'every host of the network opens them')
    .action(
      action(
        async (
          { connect },
          [endpoint],
          { network = '', everywhere = false }: { network?: string; everywhere?: boolean },
          [, words],
        ): Promise<Result> => {
          const publish = listOf(words);
          checkEverywhere(publish, everywhere);
          const request = { endpoint, network, publish, everywhere };
          const { ports } = await connect.agent(
            'AgentService',
            (client) => client.publishPorts,
            request,
            WRITE_MS,
          );
          return portList(ports);
        },
      ),
    );

  lists(port.command('ls'), openPortShape(NO_PORT))
    .alias('list')
    .description('list the open ports of this host')
    .argument('[endpoint]', ENDPOINT)
    .action(
      action(async ({ connect }, [endpoint]): Promise<Result> => {
        const { ports } = await connect.agent(
          'AgentService',
          (client) => client.listPorts,
          { endpoint },
          READ_MS,
        );
        return portList(ports);
      }),
    );

  port
    .command('rm')
    .alias('remove')
    .description('close ports of a container')
    .argument('<endpoint>', ENDPOINT)
    .argument('[spec...]', 'HOSTPORT[/udp] as the host has it, ranges, or what published it', published)
    .option('--network <name>', 'on which of its networks', networkName)
    .option('--all', 'all that it has')
    .action(
      action(
        async (
          { connect },
          [endpoint],
          { network = '', all = false }: { network?: string; all?: boolean },
          [, words],
        ): Promise<Result> => {
          const ports = listOf(words);
          if (all === ports.length > 0) {
            throw invalidArgument(
              all ? '--all: ports are named besides' : 'spec: no port is named',
              'Name the ports that are to be closed, or give --all.',
            );
          }
          const { ports: gone } = await connect.agent(
            'AgentService',
            (client) => client.unpublishPorts,
            { endpoint, network, ports, all },
            WRITE_MS,
          );
          return portList(gone);
        },
      ),
    );
}

const NO_PORT: OpenPort = {
  publish: { hostIp: '', hostPort: 0, port: 0, protocol: '', everywhere: false },
  ...{ endpoint: '', name: '', network: '', node: '', ip: '', problem: '' },
};

const portList = (ports: readonly OpenPort[]): Result =>
  listing(ports, {
    shape: openPortShape,
    name: ({ publish }) => (publish === undefined ? '' : formatHostPort(publish)),
    columns: {
      HOST: ({ publish }) => (publish === undefined ? '' : formatHostPort(publish)),
      PROTOCOL: ({ publish }) => publish?.protocol ?? '',
      ENDPOINT: ({ name }) => name,
      NETWORK: ({ network }) => network,
      'LEADS TO': ({ ip, ip6 = '', publish }) => `${ip || `[${ip6}]`}:${publish?.port ?? ''}`,
      NODE: ({ node }) => node,
      EVERYWHERE: ({ publish }) => (publish?.everywhere === true ? 'yes' : 'no'),
      PROBLEM: ({ problem }) => problem,
    },
  });
