// weft status: asks this host's agent, or the controller where the agent is away.
import { existsSync } from 'node:fs';

import type { Command } from 'commander';

import { WeftError } from '../../core/errors.js';
import type { Problem, Status } from '../../proto/gen/weft/v1/types.js';
import { READ_MS, type Connector } from '../connect.js';
import type { Action } from '../action.js';
import type { Result } from '../output.js';
import { clusterStatusShape, statusShape } from '../shapes.js';
import { clusterText, nodeText } from '../status-text.js';
import { beQuiet } from '../waiting.js';

export function statusCommand(program: Command, action: Action): void {
  const command = program.command('status');
  command
    .description('how this node, its networks and its peers are, and what is wrong')
    .option('-q, --quiet', 'print nothing: the exit status is 0 while things are ok or degraded, else 1')
    .action(
      action(async ({ connect }, _words, { quiet }: { quiet?: true }): Promise<Result | undefined> => {
        connect.checkController();
        if (quiet === true) beQuiet();
        const isNamed = command.getOptionValueSource('agent') !== 'default';
        const { status, here } = await ask(connect, isNamed || existsSync(connect.agentPath));
        if (status.health === 'down') process.exitCode = 1;
        if (quiet === true) return undefined;
        return here === undefined
          ? { value: statusShape(status), text: () => nodeText(status) }
          : { value: clusterStatusShape(status, here), text: () => clusterText(status, here) };
      }),
    );
}

interface Answer {
  status: Status;
  /** What this host has found wrong, where the status is a controller's: the cluster's. */
  here?: Problem[];
}

/** @param isNode whether this host has an agent, or should have: then the node is down where it does not answer */
async function ask(connect: Connector, isNode: boolean): Promise<Answer> {
  const problems: Problem[] = [];
  for (const whom of ['agent', 'controller'] as const) {
    try {
      const status = await connect[whom]('StatusService', (client) => client.getStatus, {}, READ_MS);
      if (whom === 'agent') return { status };
      const health = isNode ? 'down' : status.health === 'ok' ? 'degraded' : status.health;
      return { status: { ...status, health }, here: problems };
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      const what =
        whom === 'agent'
          ? `the agent at ${connect.agentPath}`
          : `the controller at ${connect.controllerAddress}`;
      const nothing = { consequences: [], broken: [], isCause: false };
      problems.push({ what, why: error.message, fix: error.next ?? '', ...nothing });
    }
  }
  return { status: unreachable(connect, problems) };
}

const unreachable = ({ controllerAddress }: Connector, problems: Problem[]): Status => ({
  health: 'down',
  node: undefined,
  store: undefined,
  controller: {
    state: 'disconnected',
    address: controllerAddress,
    error: problems.at(-1)?.why ?? '',
    leader: false,
    nodesUp: 0,
    nodesDown: 0,
  },
  networks: [],
  peers: [],
  problems,
  warnings: [],
  plugins: [],
});
