// weft status: asks this host's agent, or the controller where the agent is away.
import type { Command } from 'commander';

import { WeftError } from '../../core/errors.js';
import type { Problem, Status, StatusNode } from '../../proto/gen/weft/v1/types.js';
import { READ_MS, type Connector } from '../connect.js';
import type { Action } from '../action.js';
import { block, indent, relative, table, type Result } from '../output.js';
import { statusShape } from '../shapes.js';
import { problemLines } from './problems.js';

export function statusCommand(program: Command, action: Action): void {
  program
    .command('status')
    .description('how this node, its networks and its peers are, and what is wrong')
    .action(
      action(async ({ connect }): Promise<Result> => {
        connect.checkController();
        const status = await ask(connect);
        if (status.health === 'down') process.exitCode = 1;
        return { value: statusShape(status), text: () => statusText(status) };
      }),
    );
}

async function ask(connect: Connector): Promise<Status> {
  const problems: Problem[] = [];
  for (const whom of ['agent', 'controller'] as const) {
    try {
      const status = await connect[whom]('StatusService', (client) => client.getStatus, {}, READ_MS);
      const health = problems.length > 0 && status.health === 'ok' ? 'degraded' : status.health;
      return { ...status, health, problems: [...problems, ...status.problems] };
    } catch (error) {
      if (!(error instanceof WeftError)) throw error;
      const what =
        whom === 'agent'
          ? `the agent at ${connect.agentPath}`
          : `the controller at ${connect.controllerAddress}`;
      problems.push({ what, why: error.message, fix: error.next ?? '' });
    }
  }
  return unreachable(connect, problems);
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
});

const capabilities = (node: StatusNode | undefined): string =>
  (node?.capabilities ?? []).flatMap(({ name, available }) => (available ? [name] : [])).join(', ');

const incapabilities = (node: StatusNode | undefined): string =>
  (node?.capabilities ?? [])
    .flatMap(({ name, available, why }) => (available ? [] : [`${name}: ${why}`]))
    .join('; ');

async function statusText(status: Status): Promise<string> {
  const { node, store, controller } = status;
  const parts = [
    block([
      ['Health', status.health],
      [
        'Node',
        node === undefined
          ? undefined
          : `${node.name}, ${[node.publicIp, node.publicIp6].filter(Boolean).join(', ')}`,
      ],
      ['Version', node?.version],
      ['Started', relative(node?.startedAt)],
      ['Firewall', node?.firewall],
      [
        'Kernel',
        node === undefined
          ? undefined
          : `${node.stepsApplied} steps, ${node.stepsFailed} refused, ${node.driftRepaired} things put right`,
      ],
      ['Can', capabilities(node)],
      ['Cannot', incapabilities(node)],
      [
        'Store',
        store === undefined
          ? undefined
          : `${store.state} ${relative(store.since)}, ${store.endpoints.join(', ')}${store.pending > 0 ? `, ${store.pending} changes to tell` : ''}`,
      ],
      [
        'Controller',
        controller === undefined
          ? undefined
          : [controller.state, controller.address].filter((part) => part !== '').join(', '),
      ],
    ]),
  ];
  if (status.networks.length > 0) {
    const rows = status.networks.map((it) => [
      it.name,
      it.subnet,
      it.gateway,
      it.mtu,
      it.endpoints,
      it.peers,
      it.expires === undefined ? 'never' : relative(it.expires),
    ]);
    parts.push(
      '',
      'Networks:',
      indent(await table(['NAME', 'SUBNET', 'GATEWAY', 'MTU', 'ENDPOINTS', 'PEERS', 'EXPIRES'], rows)),
    );
  }
  if (status.peers.length > 0) {
    const rows = status.peers.map((it) => [
      it.node,
      it.publicIp,
      it.state,
      it.rttMs === undefined ? '' : `${it.rttMs.toFixed(2)} ms`,
    ]);
    parts.push('', 'Peers:', indent(await table(['NODE', 'PUBLIC IP', 'STATE', 'RTT'], rows)));
  }
  return [...parts, ...problemLines(status.problems), ...problemLines(status.warnings, 'Warnings')].join(
    '\n',
  );
}
