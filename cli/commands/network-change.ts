// weft network update | route
import type { Command } from 'commander';

import { invalidArgument } from '../../core/errors.js';
import { addBackendOptions, backendRequest, type BackendOptions } from '../backend-options.js';
import { networkName, onOff } from '../checks.js';
import { WRITE_MS } from '../connect.js';
import type { Action } from '../action.js';
import type { Result } from '../output.js';
import { networkShape } from '../shapes.js';

type UpdateOptions = BackendOptions & {
  masquerade?: boolean;
  portSecurity?: boolean;
  directAccess?: boolean;
  force?: boolean;
};

const UPDATE_HELP = `
A move to another backend costs running containers at most a moment. It goes on where it was with the same command,
and ends with the old backend's name as long as the new one is not in use.

Example:
  weft network update blue --backend wireguard`;

export function networkChangeCommands(network: Command, action: Action): void {
  const update = network
    .command('update')
    .description('change a network; every host follows at once')
    .argument('<name>', 'its name', networkName)
    .option('--masquerade', 'containers leave it under the address of their host')
    .option('--no-masquerade', 'containers leave it under their own addresses')
    .option(
      '--port-security <on|off>',
      'whether containers send with their own addresses alone',
      onOff('port-security'),
    )
    .option(
      '--direct-access <on|off>',
      'whether the LAN and other bridges reach what is not published',
      onOff('direct-access'),
    )
    .option('--force', 'move it although a flanneld stays behind with the old backend')
    .addHelpText('after', UPDATE_HELP)
    .action(
      action(async ({ connect }, [name], options: UpdateOptions): Promise<Result> => {
        const { masquerade, portSecurity, directAccess, force = false } = options;
        const carrier = backendRequest(options);
        const asked = [masquerade, portSecurity, directAccess, carrier.backend];
        if (asked.every((it) => it === undefined)) {
          throw invalidArgument(
            'nothing is to be changed',
            'Give --masquerade, --no-masquerade, --port-security, --direct-access or --backend.',
          );
        }
        const request = { name, masquerade, portSecurity, directAccess, force, ...carrier };
        let told = '';
        for (;;) {
          const changed = await connect.controller(
            'NetworkService',
            (client) => client.updateNetwork,
            request,
            WRITE_MS,
          );
          const { move } = changed;
          if (carrier.backend === undefined || move === undefined)
            return { value: networkShape(changed), text: () => changed.name };
          const progress = `${changed.backend === carrier.backend ? 'in use' : 'prepared'}, waiting for ${move.waitingFor.join(', ') || 'the nodes'}`;
          if (progress !== told) process.stderr.write(`${name}: ${carrier.backend} is ${progress}\n`);
          told = progress;
        }
      }),
    );
  addBackendOptions(update);

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
