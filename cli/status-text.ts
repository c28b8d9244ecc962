// weft status for people: what is wrong stands at the top, and what is many is counted.
import type {
  Path,
  Peer,
  Problem,
  Status,
  StatusController,
  StatusNode,
  StatusStore,
} from '../proto/gen/weft/v1/types.js';
import { problemLines } from './problem-lines.js';
import { block, ending, indent, indentedTable, relative } from './output.js';

/** Of more peers than this only those that are not well are listed, and no more of them than this. */
const MOST_LISTED = 20;

const listed = (...parts: (string | undefined)[]): string => parts.filter(Boolean).join(', ');

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

const isBroken = ({ state }: Path): boolean => state !== 'ok' && state !== 'unknown' && state !== 'node-down';

/** How many there are; then those that are not ok. */
function pathsText(paths: readonly Path[]): string {
  const unknown = paths.filter(({ state }) => state === 'unknown').length;
  const ok = paths.filter(({ state }) => state === 'ok').length;
  return listed(
    `${ok} ok`,
    unknown === 0 ? undefined : `${unknown} unknown`,
    ...paths
      .filter(isBroken)
      .map(
        ({ network, family, state, mtu }) =>
          `${network} IPv${family} ${state}${state === 'mtu' && mtu !== undefined ? ` ${mtu}` : ''}`,
      ),
  );
}

/** The health, what is wrong, and only then the rest. */
function withProblems(pairs: Parameters<typeof block>[0], problems: readonly string[]): string[] {
  const [health = '', ...rest] = block(pairs).split('\n');
  return [health, ...problems, ...(problems.length > 0 && rest.length > 0 ? [''] : []), ...rest];
}

/** A flanneld is not known to run, and is well. */
const isWell = ({ state, paths }: Peer): boolean => state !== 'down' && !paths.some(isBroken);

function countsText(peers: readonly Peer[]): string {
  const count = (fits: (peer: Peer) => boolean, what: string): string | undefined => {
    const number = peers.filter(fits).length;
    return number === 0 ? undefined : `${number} ${what}`;
  };
  return listed(
    count(({ state }) => state === 'up', 'up'),
    count(({ state }) => state === 'down', 'down'),
    count(({ state }) => state === 'unknown', 'unknown'),
    count(({ paths }) => paths.some(isBroken), 'with broken paths'),
  );
}

/** Those that are not well come first; where there are many, the others are only counted. */
async function peerLines(
  title: string,
  peers: readonly Peer[],
  columns: readonly (readonly [heading: string, cell: (peer: Peer) => string])[],
): Promise<string[]> {
  if (peers.length === 0) return [];
  const isLong = peers.length > MOST_LISTED;
  const bad = peers.filter((peer) => !isWell(peer));
  const shown = isLong ? bad.slice(0, MOST_LISTED) : [...bad, ...peers.filter(isWell)];
  const head = columns.map(([heading]) => heading);
  const rows = shown.map((peer) => columns.map(([, cell]) => cell(peer)));
  const more = isLong ? bad.length - shown.length : 0;
  return [
    '',
    isLong ? `${title}: ${countsText(peers)}` : `${title}:`,
    ...(rows.length === 0 ? [] : [await indentedTable(head, rows)]),
    ...(more === 0 ? [] : [indent(`and ${more} more that are not well, see -o json`)]),
  ];
}

/** Of encrypted networks. */
const handshake = [
  'HANDSHAKE',
  ({ handshakeAgeS: age }: Peer): string => (age === undefined ? '' : `${Math.round(age)} s ago`),
] as const;

/** An agent's answer: of this host. */
export async function nodeText(status: Status): Promise<string> {
  const { node, store, controller, networks, peers } = status;
  const pairs = [
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
  ] as const;
  const parts = withProblems(pairs, problemLines(status.problems));
  if (networks.length > 0) {
    const isLate = networks.some(({ expires }) => ending(expires) !== '');
    const rows = networks.map((it) => [
      it.name,
      it.subnet || (it.subnet6 ?? ''),
      it.gateway,
      it.mtu,
      it.endpoints,
      it.peers,
      ...(isLate ? [ending(it.expires)] : []),
    ]);
    const columns = [
      'NAME',
      'SUBNET',
      'GATEWAY',
      'MTU',
      'ENDPOINTS',
      'PEERS',
      ...(isLate ? ['EXPIRES'] : []),
    ];
    parts.push('', 'Networks:', await indentedTable(columns, rows));
  }
  const isEncrypted = peers.some((it) => it.handshakeAgeS !== undefined);
  const peerTable = await peerLines('Peers', peers, [
    ['NODE', ({ node: name }) => name],
    ['PUBLIC IP', ({ publicIp }) => publicIp],
    ['STATE', ({ state }) => state],
    ['RTT', ({ rttMs }) => (rttMs === undefined ? '' : `${rttMs.toFixed(2)} ms`)],
    ['PATHS', ({ paths }) => pathsText(paths)],
    ...(isEncrypted ? [handshake] : []),
  ]);
  return [...parts, ...peerTable, ...problemLines(status.warnings, 'Warnings')].join('\n');
}

const controllerText = ({ leader, nodesUp, nodesDown }: StatusController): string =>
  listed(leader ? 'leader' : undefined, `${nodesUp} nodes up`, `${nodesDown} down`);

/** A controller's answer: the cluster, and nothing of this host but what it has found wrong itself. */
export async function clusterText(status: Status, here: readonly Problem[]): Promise<string> {
  const { health, node, store, controller, networks, peers } = status;
  const problems = [...problemLines(here), ...problemLines(status.problems, 'Problems of the cluster')];
  const parts = [
    ...withProblems([['Health', health]], problems),
    '',
    'Controller:',
    indent(
      block([
        ['Address', controller?.address],
        ['State', controller && controllerText(controller)],
        ['Version', node?.version],
        ['Started', relative(node?.startedAt)],
        ['Certificate', certificateText(node)],
        ['Store', storeText(store)],
      ]),
    ),
  ];
  if (networks.length > 0) {
    const rows = networks.map((it) => [it.name, it.subnet || (it.subnet6 ?? ''), it.endpoints, it.peers]);
    const columns = ['NAME', 'SUBNET', 'ENDPOINTS', 'NODES'];
    parts.push('', 'Networks of the cluster:', await indentedTable(columns, rows));
  }
  const nodes = await peerLines('Nodes of the cluster', peers, [
    ['NODE', ({ node: name }) => name],
    ['PUBLIC IP', ({ publicIp }) => publicIp],
    ['STATE', ({ state }) => state],
  ]);
  return [...parts, ...nodes, ...problemLines(status.warnings, 'Warnings of the cluster')].join('\n');
}
