// weft ipam show | check | release
import type { Command } from 'commander';

import type { IpamFinding } from '../../proto/gen/weft/v1/ipam.js';
import type { Endpoint, Lease, Network } from '../../proto/gen/weft/v1/types.js';
import type { Action } from '../action.js';
import { networkName } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import { listOf } from '../context.js';
import { readCluster } from '../find.js';
import { chosen } from '../known.js';
import { lists } from '../lists.js';
import { ending, listing, printWarning, relative, table, type Result } from '../output.js';

/** Nodes that hang are waited for. */
const CHECK_MS = 15_000;

export function ipamCommands(program: Command, action: Action): void {
  const ipam = program.command('ipam').description('addresses: how many are used, and what does not belong');

  lists(ipam.command('show'), NO_USE)
    .description('addresses in use and free, by network and node')
    .option('--network <name>', 'only of this network', networkName)
    .action(
      action(async ({ connect }, _words, { network }: { network?: string }): Promise<Result> => {
        const [{ networks }, { endpoints }] = await Promise.all([
          connect.controller('NetworkService', (client) => client.listNetworks, {}, READ_MS),
          readCluster(connect),
        ]);
        const asked = chosen('network', networks, network === undefined ? undefined : [network]);
        return useList(asked.flatMap((one) => usesOf(one, endpoints)));
      }),
    );

  ipam
    .command('check')
    .description('where etcd, nodes and containers disagree about addresses')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const { findings, notes } = await connect.controller(
          'IpamService',
          (client) => client.checkIpam,
          {},
          CHECK_MS,
        );
        notes.forEach(printWarning);
        if (findings.length > 0) process.exitCode = 1;
        return {
          value: { ok: findings.length === 0, findings: findings.map(findingShape) },
          text: () => (findings.length === 0 ? 'nothing was found' : findingTable(findings)),
        };
      }),
    );

  ipam
    .command('release')
    .description('release what `weft ipam check` has found in two looks at least two minutes apart')
    .argument('<id...>', 'ids of findings')
    .action(
      action(async ({ connect }, _words, _options, [ids]): Promise<Result> => {
        const { released } = await connect.controller(
          'IpamService',
          (client) => client.releaseAddresses,
          { ids: listOf(ids) },
          WRITE_MS,
        );
        return {
          value: released.map(findingShape),
          text: () => released.map(({ id }) => id).join('\n'),
        };
      }),
    );
}

interface Use {
  network: string;
  node: string | null;
  /** A node's subnet, or the range of a network without subnets. */
  subnet: string;
  used: number;
  /** For containers; null: too many to count. */
  size: number | null;
  expires: string | null;
}

const NO_USE: Use = { network: '', node: null, subnet: '', used: 0, size: null, expires: null };

function usesOf(network: Network, endpoints: readonly Endpoint[]): Use[] {
  const own = endpoints.filter((one) => one.network === network.name);
  const use = (node: string | null, subnet: string, expires: string | null): Use => ({
    ...{ network: network.name, node, subnet, expires },
    used: own.filter((one) => node === null || one.node === node).length,
    size: sizeOf(subnet),
  });
  if (network.leases.length === 0)
    return [use(null, network.range ?? (network.subnet || (network.subnet6 ?? '')), null)];
  return network.leases.map((lease: Lease) =>
    lease.node === undefined
      ? { ...use('', lease.subnet, lease.expires ?? null), node: null }
      : use(lease.node, lease.subnet || (lease.subnet6 ?? ''), lease.expires ?? null),
  );
}

/** Without base, gateway and broadcast address. */
function sizeOf(subnet: string): number | null {
  const length = Number(subnet.split('/')[1]);
  return subnet.includes(':') || !(length >= 8 && length <= 30) ? null : 2 ** (32 - length) - 3;
}

function useList(uses: readonly Use[]): Result {
  const isLate = uses.some(({ expires }) => ending(expires) !== '');
  return listing(uses, {
    shape: (use) => use,
    name: ({ subnet }) => subnet,
    columns: {
      NETWORK: ({ network }) => network,
      NODE: ({ node }) => node ?? '',
      SUBNET: ({ subnet }) => subnet,
      USED: ({ used }) => used,
      FREE: ({ size, used }) => (size === null ? 'plenty' : Math.max(0, size - used)),
      ...(isLate && { EXPIRES: ({ expires }: Use) => ending(expires) }),
    },
  });
}

const findingShape = ({
  id,
  kind,
  network,
  address,
  node,
  why,
  safe,
  safeFrom,
  since,
}: IpamFinding): object => ({
  ...{ id, kind, network, address, why, safe, since },
  node: node === '' ? null : node,
  safeFrom: safeFrom ?? null,
});

const findingTable = (findings: readonly IpamFinding[]): Promise<string> =>
  table(
    ['ID', 'ADDRESS', 'NODE', 'RELEASE', 'WHY'],
    findings.map(({ id, address, node, why, safe, safeFrom }) => [
      ...[id, address, node],
      safe ? 'now' : safeFrom === undefined ? 'no' : relative(safeFrom),
      why,
    ]),
  );
