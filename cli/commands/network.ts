// weft network create | ls | inspect | rm
import type { Command } from 'commander';

import { MAX_VNI } from '../../core/network.js';
import { NetworkServiceClient, type CreateNetworkRequest } from '../../proto/gen/weft/v1/controller.js';
import type { Network } from '../../proto/gen/weft/v1/types.js';
import { checkPrefixes, integer, networkName, subnetOf } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import { block, indent, relative, table, type Result } from '../output.js';
import { networkShape } from '../shapes.js';
import type { Action } from '../main.js';
import { networkChangeCommands } from './network-change.js';

type CreateOptions = Omit<Partial<CreateNetworkRequest>, 'name' | 'noMasquerade' | 'subnet'> & {
  subnet: string;
  masquerade: boolean;
};

export function networkCommands(program: Command, action: Action): void {
  const network = program.command('network').description('make, show and remove networks');

  network
    .command('create')
    .description('make a network that containers of all hosts can be attached to')
    .argument('<name>', 'its name: letters, digits, _ and -', networkName)
    .requiredOption('--subnet <cidr>', 'its IPv4 addresses, such as 10.100.0.0/16', subnetOf(4, 'subnet'))
    .option('--subnet6 <cidr>', 'its IPv6 addresses, such as fd42:100::/48', subnetOf(6, 'subnet6'))
    .option('--driver <driver>', 'what kind of network: overlay')
    .option('--backend <backend>', 'what carries an overlay between hosts: vxlan')
    .option(
      '--host-prefix <n>',
      'length of the subnet that each node takes (default: 24, or subnet + 2)',
      integer('host-prefix', 1, 30),
    )
    .option(
      '--host-prefix6 <n>',
      'the same for IPv6 (default: 64, or subnet + 16)',
      integer('host-prefix6', 1, 126),
    )
    .option('--vni <n>', 'VXLAN network identifier (default: a free one)', integer('vni', 1, MAX_VNI))
    .option('--port <udp>', 'UDP port of the tunnel (default: 8472)', integer('port', 1, 65535))
    .option(
      '--mtu <n>',
      'MTU of containers (default: the underlay’s less the overhead)',
      integer('mtu', 68, 65535),
    )
    .option('--internal', 'nothing outside reaches it, and it reaches nothing outside')
    .option('--no-masquerade', 'containers leave it under their own addresses')
    .action(
      action(async ({ connect }, [name], options: CreateOptions): Promise<Result> => {
        checkPrefixes(options);
        const { masquerade, ...rest } = options;
        const request = { ...rest, name, internal: options.internal ?? false, noMasquerade: !masquerade };
        const made = await connect.controller(
          NetworkServiceClient,
          (client) => client.createNetwork,
          request,
          WRITE_MS,
        );
        return { value: networkShape(made), text: () => made.name };
      }),
    );

  network
    .command('ls')
    .alias('list')
    .description('list networks')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const { networks } = await connect.controller(
          NetworkServiceClient,
          (client) => client.listNetworks,
          {},
          READ_MS,
        );
        return { value: networks.map(networkShape), text: () => networkTable(networks) };
      }),
    );

  network
    .command('inspect')
    .description('show one network with the subnets of its nodes')
    .argument('<name>', 'its name', networkName)
    .action(
      action(async ({ connect }, [name]): Promise<Result> => {
        const found = await connect.controller(
          NetworkServiceClient,
          (client) => client.getNetwork,
          { name },
          READ_MS,
        );
        return { value: networkShape(found), text: () => networkBlock(found) };
      }),
    );

  network
    .command('rm')
    .alias('remove')
    .description('remove a network')
    .argument('<name>', 'its name', networkName)
    .option('--force', 'although containers are attached; they lose it')
    .action(
      action(async ({ connect }, [name], { force = false }: { force?: boolean }): Promise<Result> => {
        await connect.controller(
          NetworkServiceClient,
          (client) => client.deleteNetwork,
          { name, force },
          WRITE_MS,
        );
        return { value: { name }, text: () => name };
      }),
    );

  networkChangeCommands(network, action);
}

const networkTable = (networks: readonly Network[]): Promise<string> =>
  table(
    ['NAME', 'DRIVER', 'SUBNET', 'SUBNET6', 'VNI', 'NODES', 'ENDPOINTS'],
    networks.map(({ name, driver, subnet, subnet6, vni, leases, endpoints }) => [
      name,
      driver,
      subnet,
      subnet6 ?? '',
      vni,
      leases.length,
      endpoints,
    ]),
  );

async function networkBlock(network: Network): Promise<string> {
  const head = block([
    ['Name', network.name],
    ['Driver', `${network.driver} (${network.backend})`],
    ['Subnet', `${network.subnet}, /${network.hostPrefix} for each node`],
    [
      'Subnet6',
      network.subnet6 === undefined ? undefined : `${network.subnet6}, /${network.hostPrefix6} for each node`,
    ],
    ['VNI', network.vni],
    ['UDP port', network.port],
    ['MTU', network.mtu ?? 'as the underlay allows'],
    ['Internal', network.internal ? 'yes' : 'no'],
    ['Masquerade', network.masquerade ? 'yes' : 'no'],
    ['Routed with', network.routes.length === 0 ? undefined : network.routes.join(', ')],
    ['Endpoints', network.endpoints],
  ]);
  const leases = await table(
    ['NODE', 'SUBNET', 'SUBNET6', 'PUBLIC IP', 'VTEP MAC', 'EXPIRES'],
    network.leases.map((lease) => [
      lease.node ?? '(flanneld)',
      lease.subnet,
      lease.subnet6 ?? '',
      lease.publicIp,
      lease.vtepMac ?? '',
      lease.expires === undefined ? 'never' : relative(lease.expires),
    ]),
  );
  return `${head}\n\nSubnets of nodes:\n${indent(network.leases.length === 0 ? 'none yet: a node takes one at its first attach' : leases)}`;
}
