// weft status: asks this host's agent, or the controller where the agent is away.
import { existsSync } from 'node:fs';

import type { Command } from 'commander';

import { WeftError } from '../../core/errors.js';
import type {
  Path,
  Peer,
  Problem,
  Status,
  StatusController,
  StatusNode,
  StatusStore,
} from '../../proto/gen/weft/v1/types.js';
import { READ_MS, type Connector } from '../connect.js';
import type { Action } from '../action.js';
import { block, indent, relative, table, type Result } from '../output.js';
import { clusterStatusShape, statusShape } from '../shapes.js';
import { problemLines } from './problems.js';

export function statusCommand(program: Command, action: Action): void {
  const command = program.command('status');
  command
    .description('how this node, its networks and its peers are, and what is wrong')
    .option('-q, --quiet', 'print nothing: the exit status is 0 while things are ok or degraded, else 1')
    .action(
      action(async ({ connect }, _words, { quiet }: { quiet?: true }): Promise<Result | undefined> => {
        connect.checkController();
        const isNamed = command.getOptionValueSource('agent') !== 'default';
        const { status, isCluster } = await ask(connect, isNamed || existsSync(connect.agentPath));
        if (status.health === 'down') process.exitCode = 1;
        if (quiet === true) return undefined;
        return isCluster
          ? { value: clusterStatusShape(status), text: () => clusterText(status) }
          : { value: statusShape(status), text: () => nodeText(status) };
      }),
    );
}

/** @param isNode whether this host has an agent, or should have: then the node is down where it does not answer */
async function ask(connect: Connector, isNode: boolean): Promise<{ status: Status; isCluster: boolean }> {
  const problems: Problem[] = [];
  for (const whom of ['agent', 'controller'] as const) {
    try {
      const status = await connect[whom]('StatusService', (client) => client.getStatus, {}, READ_MS);
      if (whom === 'agent') return { status, isCluster: false };
      const health = isNode ? 'down' : status.health === 'ok' ? 'degraded' : status.health;
      return { status: { ...status, health, problems: [...problems, ...status.problems] }, isCluster: true };
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
  return { status: unreachable(connect, problems), isCluster: false };
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

const capabilities = (node: StatusNode | undefined): string =>
  (node?.capabilities ?? []).flatMap(({ name, available }) => (available ? [name] : [])).join(', ');

const incapabilities = (node: StatusNode | undefined): string =>
  (node?.capabilities ?? [])
    .flatMap(({ name, available, why }) => (available ? [] : [`${name}: ${why}`]))
    .join('; ');

const storeText = (store: StatusStore | undefined): string | undefined =>
  store &&
  `${store.state} ${relative(store.since)}, ${store.endpoints.join(', ')}${store.pending > 0 ? `, ${store.pending} changes to tell` : ''}`;

const certificateText = (node: StatusNode | undefined): string | undefined =>
  node?.certificateExpires && `ends ${relative(node.certificateExpires)}`;

const listed = (...parts: (string | undefined)[]): string => parts.filter(Boolean).join(', ');

/** How many there are; then those that are not ok. */
function pathsText(paths: readonly Path[]): string {
  const broken = paths.filter(({ state }) => state !== 'ok' && state !== 'unknown' && state !== 'node-down');
  const unknown = paths.filter(({ state }) => state === 'unknown').length;
  const ok = paths.filter(({ state }) => state === 'ok').length;
  return listed(
    `${ok} ok`,
    unknown === 0 ? undefined : `${unknown} unknown`,
    ...broken.map(
      ({ network, family, state, mtu }) =>
        `${network} IPv${family} ${state}${state === 'mtu' && mtu !== undefined ? ` ${mtu}` : ''}`,
    ),
  );
}

async function nodeText(status: Status): Promise<string> {
  const { node, store, controller } = status;
  const parts = [
    block([
      ['Health', status.health],
      ['Node', node && listed(node.name, node.publicIp, node.publicIp6)],
      ['Version', node?.version],
      ['Started', relative(node?.startedAt)],
      ['Certificate', certificateText(node)],
      ['Firewall', node?.firewall],
      [
        'Kernel',
        node &&
          `${node.stepsApplied} steps, ${node.stepsFailed} refused, ${node.driftRepaired} things put right`,
      ],
      ['Can', capabilities(node)],
      ['Cannot', incapabilities(node)],
      ['Store', storeText(store)],
      ['Controller', controller && listed(controller.state, controller.address)],
      ['Serves', listed(...status.plugins.map(({ manager, socket }) => `${manager} at ${socket}`))],
    ]),
  ];
  if (status.networks.length > 0) {
    const rows = status.networks.map((it) => [
      it.name,
      it.subnet || (it.subnet6 ?? ''),
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
    const isEncrypted = status.peers.some((it) => it.handshakeAgeS !== undefined);
    const rows = status.peers.map((it) => [
      it.node,
      it.publicIp,
      it.state,
      it.rttMs === undefined ? '' : `${it.rttMs.toFixed(2)} ms`,
      pathsText(it.paths),
      ...(isEncrypted ? [it.handshakeAgeS === undefined ? '' : `${Math.round(it.handshakeAgeS)} s ago`] : []),
    ]);
    const columns = ['NODE', 'PUBLIC IP', 'STATE', 'RTT', 'PATHS', ...(isEncrypted ? ['HANDSHAKE'] : [])];
    parts.push('', 'Peers:', indent(await table(columns, rows)));
  }
  return [...parts, ...problemLines(status.problems), ...problemLines(status.warnings, 'Warnings')].join(
    '\n',
  );
}

const controllerText = ({ address, leader, nodesUp, nodesDown }: StatusController): string =>
  listed(address, leader ? 'leader' : undefined, `${nodesUp} nodes up`, `${nodesDown} down`);

/** A controller's answer: the cluster, and nothing of this host. */
async function clusterText({ health, node, store, controller, ...status }: Status): Promise<string> {
  const parts = [
    block([
      ['Health', health],
      ['Controller', controller && controllerText(controller)],
      ['Version', node?.version],
      ['Started', relative(node?.startedAt)],
      ['Certificate', certificateText(node)],
      ['Store', storeText(store)],
    ]),
  ];
  if (status.networks.length > 0) {
    const rows = status.networks.map((it) => [
      it.name,
      it.subnet || (it.subnet6 ?? ''),
      it.endpoints,
      it.peers,
    ]);
    parts.push(
      '',
      'Networks of the cluster:',
      indent(await table(['NAME', 'SUBNET', 'ENDPOINTS', 'NODES'], rows)),
    );
  }
  if (status.peers.length > 0) {
    const rows = status.peers.map((it: Peer) => [it.node, it.publicIp, it.state]);
    parts.push('', 'Nodes of the cluster:', indent(await table(['NODE', 'PUBLIC IP', 'STATE'], rows)));
  }
  return [...parts, ...problemLines(status.problems), ...problemLines(status.warnings, 'Warnings')].join(
    '\n',
  );
}
