// weft top: traffic of networks and endpoints, a second.
import { setTimeout as delay } from 'node:timers/promises';

import { type Command, Option } from 'commander';

import { WeftError } from '../../core/errors.js';
import type { LinkTraffic } from '../../proto/gen/weft/v1/inspection.js';
import type { Action } from '../action.js';
import { name as nameOf, networkName, secondsOf } from '../checks.js';
import { READ_MS, type Connector } from '../connect.js';
import { chosen } from '../known.js';
import { answersOf, forEachNode, listNodes } from '../nodes.js';
import { indentedTable, printWarning, type Result } from '../output.js';
import { notSilently } from '../waiting.js';

const SORTS = ['bytes', 'packets', 'drops'] as const;

interface TopOptions {
  node?: string;
  network?: string;
  interval: number;
  sort: (typeof SORTS)[number];
}

interface Rate {
  node: string;
  kind: string;
  network: string;
  id: string;
  name: string;
  receivedBytes: number;
  receivedPackets: number;
  sentBytes: number;
  sentPackets: number;
  drops: number;
}

const USUAL_SECONDS = 1;

export function topCommand(program: Command, action: Action): void {
  program
    .command('top')
    .description('bytes, packets and drops a second of networks and endpoints; with --watch again and again')
    .option('--node <name>', 'only on this node', nameOf('node'))
    .option('--network <name>', 'only of this network', networkName)
    .option(
      '--interval <span>',
      'what is measured (default: 1s)',
      secondsOf('interval', { min: 1000, max: 3_600_000 }),
      USUAL_SECONDS,
    )
    .addOption(new Option('--sort <by>', 'what comes first').choices(SORTS).default('bytes'))
    .action(
      action(async ({ connect }, _words, options: TopOptions): Promise<Result> => {
        const nodes = await nodesOf(connect, options);
        const before = await sample(connect, nodes);
        await notSilently('the second measurement', () => delay(options.interval * 1000));
        const after = await sample(connect, before.nodes);
        const rates = ratesOf(before.counters, after.counters, options);
        const networks = rates.filter(({ kind }) => kind === 'network').map(withoutEndpoint);
        const endpoints = rates.filter(({ kind }) => kind === 'endpoint').map(withoutKind);
        return { value: { networks, endpoints }, text: () => textOf(rates) };
      }),
    );
}

/** Those that are up, or the one that is named. @throws WeftError NOT_FOUND for a name that nothing has */
async function nodesOf(connect: Connector, { node, network }: TopOptions): Promise<string[]> {
  if (network !== undefined)
    await connect.controller('NetworkService', (client) => client.getNetwork, { name: network }, READ_MS);
  const all = chosen('node', await listNodes(connect), node === undefined ? undefined : [node]);
  return all.filter(({ state }) => node !== undefined || state === 'up').map(({ name }) => name);
}

type Counters = Map<string, { at: number; node: string; traffic: LinkTraffic }>;

interface Sample {
  /** Those that have answered. */
  nodes: string[];
  counters: Counters;
}

/** @throws WeftError where no node has answered */
async function sample(connect: Connector, nodes: readonly string[]): Promise<Sample> {
  const found: Counters = new Map();
  const answers = await forEachNode(nodes, async (node) => {
    const question = { $case: 'traffic', value: {} } as const;
    const all = await answersOf(connect, 'traffic', { node, question });
    for (const traffic of all)
      found.set(JSON.stringify([node, traffic.kind, traffic.network, traffic.id]), {
        at: performance.now(),
        node,
        traffic,
      });
  });
  const failed = answers.flatMap(({ node, result }) =>
    result instanceof WeftError ? { node, error: result } : [],
  );
  if (failed[0] !== undefined && failed.length === answers.length) throw failed[0].error;
  for (const { node, error } of failed) printWarning(`node ${node} is missing: ${error.message}`);
  const missing = new Set(failed.map(({ node }) => node));
  return { nodes: nodes.filter((node) => !missing.has(node)), counters: found };
}

function ratesOf(before: Counters, after: Counters, { network, sort }: TopOptions): Rate[] {
  const rates = [...after].flatMap(([key, { at, node, traffic }]): Rate[] => {
    const first = before.get(key);
    if (first === undefined || (network !== undefined && traffic.network !== network)) return [];
    const seconds = (at - first.at) / 1000;
    // A counter that went back is that of a new link.
    const rate = (now: number, then: number): number => Math.max(0, (now - then) / seconds);
    const then = first.traffic;
    return [
      {
        ...{ node, kind: traffic.kind, network: traffic.network, id: traffic.id, name: traffic.name },
        receivedBytes: rate(traffic.receivedBytes, then.receivedBytes),
        receivedPackets: rate(traffic.receivedPackets, then.receivedPackets),
        sentBytes: rate(traffic.sentBytes, then.sentBytes),
        sentPackets: rate(traffic.sentPackets, then.sentPackets),
        drops: rate(traffic.droppedPackets, then.droppedPackets),
      },
    ];
  });
  return rates.toSorted((a, b) => WEIGHT[sort](b) - WEIGHT[sort](a));
}

const WEIGHT: Record<TopOptions['sort'], (rate: Rate) => number> = {
  bytes: ({ receivedBytes, sentBytes }) => receivedBytes + sentBytes,
  packets: ({ receivedPackets, sentPackets }) => receivedPackets + sentPackets,
  drops: ({ drops }) => drops,
};

const withoutKind = ({ kind: _kind, ...rate }: Rate): object => rate;
const withoutEndpoint = ({ kind: _kind, id: _id, name: _name, ...rate }: Rate): object => rate;

const HEAD = ['IN', 'OUT', 'PACKETS IN', 'PACKETS OUT', 'DROPS'];
const cells = (rate: Rate): string[] => [
  ...[rate.receivedBytes, rate.sentBytes].map((bytes) => `${scaled(bytes)}B/s`),
  ...[rate.receivedPackets, rate.sentPackets, rate.drops].map((count) => `${scaled(count)}/s`),
];

async function textOf(rates: readonly Rate[]): Promise<string> {
  const networks = rates.filter(({ kind }) => kind === 'network');
  const endpoints = rates.filter(({ kind }) => kind === 'endpoint');
  return [
    'Networks, between the nodes:',
    await indentedTable(
      ['NETWORK', 'NODE', ...HEAD],
      networks.map((it) => [it.network, it.node, ...cells(it)]),
    ),
    '',
    'Endpoints:',
    await indentedTable(
      ['NAME', 'NETWORK', 'NODE', ...HEAD],
      endpoints.map((it) => [it.name, it.network, it.node, ...cells(it)]),
    ),
  ].join('\n');
}

const UNITS = ['', 'k', 'M', 'G', 'T'];

/** 1.2k for 1234. */
function scaled(value: number): string {
  const power = value < 1000 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  const shown = value / 1000 ** power;
  return `${shown >= 100 || Number.isInteger(shown) ? Math.round(shown) : shown.toFixed(1)} ${UNITS[power]}`.replace(
    / $/,
    '',
  );
}
