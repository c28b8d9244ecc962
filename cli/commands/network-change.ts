// weft network update | route
import type { Command } from 'commander';

import { invalidArgument } from '../../core/errors.js';
import { networkName } from '../checks.js';
import { WRITE_MS } from '../connect.js';
import type { Action } from '../action.js';
import type { Result } from '../output.js';
import { networkShape } from '../shapes.js';

export function networkChangeCommands(network: Command, action: Action): void {
  network
    .command('update')
    .description('change a network; every host follows at once')
    .argument('<name>', 'its name', networkName)
    .option('--masquerade', 'containers leave it under the address of their host')
    .option('--no-masquerade', 'containers leave it under their own addresses')
    .action(
      action(async ({ connect }, [name], { masquerade }: { masquerade?: boolean }): Promise<Result> => {
        if (masquerade === undefined) {
          throw invalidArgument('nothing is to be changed', 'Give --masquerade or --no-masquerade.');
        }
        const changed = await connect.controller(
          'NetworkService',
          (client) => client.updateNetwork,
          { name, masquerade },
          WRITE_MS,
        );
        return { value: networkShape(changed), text: () => changed.name };
      }),
    );

  network
    .command('route')
    .description('let two networks reach each other, on every host')
    .argument('<a>', 'one of them', networkName)
    .argument('<b>', 'the other', networkName)
    .option('--remove', 'keep them apart again')
    .action(
      action(async ({ connect }, [a, b], { remove = false }: { remove?: boolean }): Promise<Result> => {
        if (a === b) throw invalidArgument(`network ${a} reaches itself anyway`, 'Name two networks.');
        const answer = await connect.controller(
          'NetworkService',
          (client) => client.routeNetworks,
          { a, b, remove },
          WRITE_MS,
        );
        const both = [answer.a, answer.b].filter((it) => it !== undefined);
        return {
          value: both.map(networkShape),
          text: () => both.map(({ name, routes }) => `${name}: ${routes.join(', ') || 'alone'}`).join('\n'),
        };
      }),
    );
}
