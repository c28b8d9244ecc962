// weft version: of this program, this host's agent and the controller.
import type { Command } from 'commander';

import { WeftError } from '../../core/errors.js';
import { version } from '../../daemon/version.js';
import type { Action } from '../action.js';
import { READ_MS, type Connector } from '../connect.js';
import { block, type Result } from '../output.js';

export function versionCommand(program: Command, action: Action): void {
  program
    .command('version')
    .description('versions of this program, this host’s agent and the controller')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const [agent, controller] = await Promise.all([
          versionOf(connect, 'agent'),
          versionOf(connect, 'controller'),
        ]);
        const nodejs = process.version;
        return {
          value: { client: version, agent, controller, nodejs },
          text: () =>
            block([
              ['Client', version],
              ['Agent', agent ?? 'does not answer'],
              ['Controller', controller ?? 'does not answer'],
              ['Node.js', nodejs],
            ]),
        };
      }),
    );
}

async function versionOf(connect: Connector, whom: 'agent' | 'controller'): Promise<string | null> {
  try {
    const { node } = await connect[whom]('StatusService', (client) => client.getStatus, {}, READ_MS);
    return node?.version ?? null;
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    return null;
  }
}
