// weft ping: how good the paths to a node or an endpoint are.
import type { Command } from 'commander';

import { notFound, WeftError } from '../../core/errors.js';
import type { Found } from '../../core/find.js';
import type { PingPath, PingQuery } from '../../proto/gen/weft/v1/inspection.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import type { Action } from '../action.js';
import { integer, networkName } from '../checks.js';
import { READ_MS, type Connector } from '../connect.js';
import { findOne, readCluster } from '../find.js';
import { answersOf } from '../nodes.js';
import { printWarning, table, type Result } from '../output.js';

export function pingCommand(program: Command, action: Action): void {
  program
    .command('ping')
    .description('measure the paths from this host to a node or an endpoint, with packets of full size')
    .argument('<place>', 'a node, or an endpoint: its name, NAME.NETWORK, id, address, or TARGET')
    .option('-c, --count <n>', 'packets on each path (default: 10)', integer('count', 1, 1000))
    .option('--network <name>', 'only the paths of this network', networkName)
    .action(
      action(
        async (
          { connect },
          [place],
          { count = 0, network = '' }: { count?: number; network?: string },
        ): Promise<Result> => {
          if (network !== '') await checkNetwork(network, connect);
          const found = await whatIs(place, connect);
          const [ip = ''] = found.kind === 'node' ? [] : addressesOf(found.endpoint);
          const value: PingQuery =
            found.kind === 'node'
              ? { peer: found.node, ip: '', network: '', count }
              : { peer: '', ip, network: found.endpoint.network, count };
          const asked = await answersOf(connect, 'path', { question: { $case: 'ping', value } });
          const paths = asked.filter((path) => network === '' || path.network === network);
          if (network !== '' && paths.length === 0)
            throw notFound(
              `network ${network}: no path of it leads to ${place}`,
              'Leave --network out to see those that do.',
            );
          if (paths.length === 0 || paths.some(({ state }) => state !== 'ok')) process.exitCode = 1;
          return { value: { paths: paths.map(shapeOf) }, text: () => textOf(paths) };
        },
      ),
    );
}

/** Without a controller it is seen by its paths. @throws WeftError NOT_FOUND */
async function checkNetwork(name: string, connect: Connector): Promise<void> {
  try {
    await connect.controller('NetworkService', (client) => client.getNetwork, { name }, READ_MS);
  } catch (error) {
    if (!(error instanceof WeftError) || error.code !== 'UNAVAILABLE') throw error;
  }
}

/** Without a controller a node can still be measured by its name. */
async function whatIs(place: string, connect: Connector): Promise<Found<Endpoint>> {
  try {
    return await findOne(connect, place, await readCluster(connect));
  } catch (error) {
    if (!(error instanceof WeftError) || error.code !== 'UNAVAILABLE') throw error;
    printWarning(`${error.message}; ${place} is taken for a node`);
    return { kind: 'node', node: place };
  }
}

const addressesOf = ({ ip, ip6 }: { ip: string; ip6?: string | undefined }): string[] =>
  [ip, ip6 ?? ''].filter((text) => text !== '').map((text) => text.replace(/\/\d+$/, ''));

const shapeOf = ({ network, family, state, mtu, p50, p99, lost, sent, ip }: PingPath): object => ({
  ...{ network, family, state, mtu: mtu ?? null },
  rttMs: { p50: p50 ?? null, p99: p99 ?? null },
  ...{ lost, sent, ip },
});

const textOf = (paths: readonly PingPath[]): Promise<string> =>
  table(
    ['NETWORK', 'FAMILY', 'ADDRESS', 'STATE', 'BYTES', 'P50', 'P99', 'LOST'],
    paths.map(({ network, family, ip, state, mtu, p50, p99, lost, sent }) => [
      ...[network, `IPv${family}`, ip, state, mtu ?? ''],
      ...[p50, p99].map((ms) => (ms === undefined ? '' : `${ms.toFixed(2)} ms`)),
      `${lost} of ${sent}`,
    ]),
  );
