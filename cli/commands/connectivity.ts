// weft connectivity test: temporary containers on every node, and what gets through between them.
import type { Command } from 'commander';

import { failedPrecondition, messageOf, WeftError } from '../../core/errors.js';
import type { Action } from '../action.js';
import { integer, names, networkName } from '../checks.js';
import { READ_MS, type Connector } from '../connect.js';
import { chosenPairs, junit, type Test } from '../connectivity-plan.js';
import { ExitError } from '../exit.js';
import { openFile, PUBLIC } from '../file-writer.js';
import { exitCodeOf, onInterrupt } from '../foreground.js';
import { chosen } from '../known.js';
import { answersOf, askNode, forEachNode, listNodes } from '../nodes.js';
import { table, type Result } from '../output.js';
import { problemLines } from '../problem-lines.js';
import { Problem, type Endpoint, type Network, type Node } from '../../proto/gen/weft/v1/types.js';

interface Options {
  nodes?: string;
  network?: string[];
  junit?: string;
  publish: number;
}

/** A temporary container. */
interface Box {
  node: string;
  network: string;
  endpoint: Endpoint;
}

export function connectivityCommands(program: Command, action: Action): void {
  const connectivity = program
    .command('connectivity')
    .description('try out whether containers reach each other');
  connectivity
    .command('test')
    .description(
      'with temporary containers on every node: a ring and random pairs, by ICMP, TCP, UDP and names, also full-size packets',
    )
    .option('--nodes <names>', 'only these, with commas between them (default: every node that is up)')
    .option('--network <name>', 'only of this network; may be repeated (default: all)', names('network'))
    .option('--junit <file>', 'write the results for CI')
    .option(
      '--publish <port>',
      'host port to publish and reach for a moment; 0: none',
      integer('publish', 0, 65_535),
      17_357,
    )
    .action(
      action(async ({ connect }, _words, options: Options): Promise<Result> => {
        options.network?.forEach((name) => networkName(name));
        const report = options.junit === undefined ? undefined : openFile(options.junit, '--junit', PUBLIC);
        const { nodes, networks } = await placesOf(connect, options);
        const tests = await withBoxes(connect, { nodes, networks, publish: options.publish }, (boxes) =>
          testAll(connect, boxes, { nodes, networks, publish: options.publish }),
        );
        const isGood = tests.every(({ ok }) => ok);
        if (!isGood) process.exitCode = 1;
        await report?.write(Buffer.from(junit(tests)));
        report?.close();
        return { value: { ok: isGood, tests }, text: () => textOf(tests) };
      }),
    );
}

interface Places {
  nodes: readonly Node[];
  networks: readonly Network[];
  /** 0: none. */
  publish: number;
}

/** @throws WeftError where there is nothing to test */
async function placesOf(
  connect: Connector,
  { nodes: wanted, network: only }: Options,
): Promise<Pick<Places, 'nodes' | 'networks'>> {
  const named = wanted?.split(',').filter((name) => name !== '');
  const asked = chosen('node', await listNodes(connect), named);
  const nodes = asked.filter(({ state }) => state === 'up');
  const down = asked.find((node) => !nodes.includes(node));
  if (named !== undefined && down !== undefined)
    throw failedPrecondition(
      `node ${down.name}: is down`,
      'Start its agent, or leave it out of --nodes; weft node ls says why.',
    );
  const all = await connect.controller('NetworkService', (client) => client.listNetworks, {}, READ_MS);
  const networks = chosen('network', all.networks, only);
  if (nodes.length === 0) throw failedPrecondition('no node is up', 'Start an agent.');
  if (networks.length === 0)
    throw failedPrecondition(
      'there is no network to test',
      'Make one: weft network create blue --subnet 10.100.0.0/16.',
    );
  return { nodes, networks };
}

/** Makes the containers, and ends them whatever happens: each lives as long as its call. */
async function withBoxes(
  connect: Connector,
  { nodes, networks, publish }: Places,
  work: (boxes: readonly Box[]) => Promise<Test[]>,
): Promise<Test[]> {
  const end = new AbortController();
  const interrupted = new Promise<never>((_resolve, reject) =>
    onInterrupt(() => {
      reject(new ExitError('ABORTED', exitCodeOf('SIGINT'), 'the test was interrupted; its containers end'));
      end.abort();
    }),
  );
  // It may come before anybody waits for it.
  interrupted.catch(() => undefined);
  const boxes: Box[] = [];
  const failed: Test[] = [];
  const ended: Promise<void>[] = [];
  const open = (node: string, network: string, port: number): Promise<void> =>
    new Promise((resolve) => {
      const value = { network, publish: port };
      const asking = {
        node,
        question: { $case: 'sandbox', value },
        method: 'operate',
        signal: end.signal,
      } as const;
      const call = askNode(connect, asking, (answer) => {
        if (answer.$case !== 'sandbox') return;
        boxes.push({ node, network, endpoint: answer.value });
        resolve();
      }).catch((error: unknown) => {
        failed.push({
          name: 'attach',
          from: `${network} on ${node}`,
          to: '',
          ok: false,
          why: messageOf(error),
        });
      });
      ended.push(call.finally(resolve));
    });
  try {
    for (const network of networks)
      await forEachNode(
        nodes.map(({ name }) => name),
        (node) => open(node, network.name, network === networks[0] && !network.internal ? publish : 0),
      );
    return [...failed, ...(await Promise.race([work(boxes), interrupted]))];
  } finally {
    end.abort();
    await Promise.all(ended);
  }
}

async function testAll(connect: Connector, boxes: readonly Box[], places: Places): Promise<Test[]> {
  const tests: Test[] = [];
  for (const { name } of places.networks) {
    const own = boxes.filter(({ network }) => network === name);
    const pairs = own.length === 1 ? own.map((one): [Box, Box] => [one, one]) : chosenPairs(own);
    for (const [from, to] of pairs) tests.push(...(await testPair(connect, from, to)));
  }
  tests.push(
    ...(await testIsolation(connect, boxes, places)),
    ...(await testPublished(connect, boxes, places)),
  );
  return tests;
}

const placeOf = ({ node, network }: Box): string => `${network} on ${node}`;
const addressOf = ({ endpoint: { ip, ip6 = '' } }: Box): string =>
  (ip === '' ? ip6 : ip).replace(/\/\d+$/, '');

interface Attempt {
  kind: string;
  to: string;
  port?: number;
}

/** Why it did not get through; undefined where it did. */
async function attempt(
  connect: Connector,
  from: Box,
  { kind, to, port = 0 }: Attempt,
): Promise<string | undefined> {
  const value = { sandbox: from.endpoint.id, kind, to, port, size: 0 };
  try {
    const asking = { node: from.node, question: { $case: 'probe', value }, method: 'operate' } as const;
    const [result] = await answersOf(connect, 'probe', asking);
    return result?.ok === true ? undefined : (result?.why ?? 'no result');
  } catch (error) {
    if (!(error instanceof WeftError)) throw error;
    return error.message;
  }
}

async function testPair(connect: Connector, from: Box, to: Box): Promise<Test[]> {
  const ip = addressOf(to);
  const attempts: [name: string, attempt: Attempt][] = [
    ...(['small', 'full', 'tcp', 'udp'] as const).map((kind): [string, Attempt] => [kind, { kind, to: ip }]),
    ...(to.endpoint.ip === ''
      ? []
      : [['dns', { kind: 'dns', to: `${to.endpoint.name}.${to.network}.weft` }] as [string, Attempt]]),
  ];
  return await Promise.all(
    attempts.map(async ([name, one]): Promise<Test> => {
      const why = await attempt(connect, from, one);
      return { name, from: placeOf(from), to: placeOf(to), ok: why === undefined, why: why ?? '' };
    }),
  );
}

/** Containers of networks that are not routed do not reach each other. */
async function testIsolation(
  connect: Connector,
  boxes: readonly Box[],
  { networks }: Places,
): Promise<Test[]> {
  const apart = networks.flatMap((a, i) => networks.slice(i + 1).map((b): [Network, Network] => [a, b]));
  const tests = apart
    .filter(([a, b]) => !a.routes.includes(b.name))
    .map(async ([a, b]): Promise<Test[]> => {
      const from = boxes.find(({ network }) => network === a.name);
      const to = boxes.find(({ network, node }) => network === b.name && node === from?.node);
      if (from === undefined || to === undefined) return [];
      const why = await attempt(connect, from, { kind: 'tcp', to: addressOf(to) });
      const about = { name: 'isolation', from: placeOf(from), to: placeOf(to) };
      return [
        { ...about, ok: why !== undefined, why: why === undefined ? 'it is reached, and must not be' : '' },
      ];
    });
  return (await Promise.all(tests)).flat();
}

/** From the container of the next node. */
async function testPublished(
  connect: Connector,
  boxes: readonly Box[],
  { nodes, publish }: Places,
): Promise<Test[]> {
  if (publish === 0) return [];
  const [network] = boxes.filter(({ endpoint }) => endpoint.publish.length > 0).map((one) => one.network);
  const own = boxes.filter((one) => one.network === network && one.endpoint.publish.length > 0);
  return await Promise.all(
    own.slice(0, -1).map(async (to, i): Promise<Test> => {
      const from = own[i + 1] ?? to;
      const host = nodes.find(({ name }) => name === to.node)?.publicIp ?? '';
      const why = await attempt(connect, from, { kind: 'tcp', to: host, port: publish });
      const about = { name: 'published port', from: placeOf(from), to: `${host}:${publish}` };
      return { ...about, ok: why === undefined, why: why ?? '' };
    }),
  );
}

async function textOf(tests: readonly Test[]): Promise<string> {
  const bad = tests.filter(({ ok }) => !ok);
  const rows = tests.filter(({ ok }) => ok).map(({ name, from, to }) => [name, from, to]);
  const problems = bad.map(({ name, from, to, why }) =>
    Problem.fromPartial({
      what: `${name}: ${from} to ${to}`,
      why,
      fix: 'See weft status on both nodes, and weft check.',
    }),
  );
  return [
    ...(rows.length === 0 ? [] : [await table(['TEST', 'FROM', 'TO'], rows)]),
    ...problemLines(problems, 'Failed'),
    '',
    `${tests.length} tests: ${bad.length} failed`,
  ].join('\n');
}
