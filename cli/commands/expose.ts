// weft expose, weft hide: the host itself as a member of a network
import type { Command } from 'commander';

import { ipOf, name, names, networkName } from '../checks.js';
import { WRITE_MS } from '../connect.js';
import type { Action } from '../action.js';
import type { Result } from '../output.js';
import { endpointShape } from '../shapes.js';
import { endpointBlock } from './endpoint.js';

interface ExposeOptions {
  name?: string;
  alias?: string[];
  ip?: string;
  ip6?: string;
}

export function exposeCommands(program: Command, action: Action): void {
  program
    .command('expose')
    .description('let this host itself join a network by an address')
    .argument('<network>', 'the network', networkName)
    .option('--name <name>', 'its name in the network, unique there (default: the node’s)', name())
    .option('--alias <name>', 'another name; may be repeated', names('alias'))
    .option('--ip <ip>', 'its IPv4 address (default: a free one of this node’s subnet)', ipOf(4, 'ip'))
    .option('--ip6 <ip>', 'its IPv6 address', ipOf(6, 'ip6'))
    .action(
      action(async ({ connect }, [network], options: ExposeOptions): Promise<Result> => {
        const made = await connect.agent(
          'HostService',
          (client) => client.expose,
          { network, name: options.name, aliases: options.alias ?? [], ip: options.ip, ip6: options.ip6 },
          WRITE_MS,
        );
        return { value: endpointShape(made), text: () => endpointBlock(made) };
      }),
    );

  program
    .command('hide')
    .description('end what `weft expose` began')
    .argument('<network>', 'the network', networkName)
    .action(
      action(async ({ connect }, [network]): Promise<Result> => {
        const gone = await connect.agent('HostService', (client) => client.hide, { network }, WRITE_MS);
        return { value: endpointShape(gone), text: () => gone.name };
      }),
    );
}
