// weft network create | ls | inspect | rm
import { Option, type Command } from 'commander';

import { MAX_VNI } from '../../core/backends/types.js';
import { DRIVER_NAMES } from '../../core/drivers/names.js';
import { VLAN_IDS } from '../../core/drivers/vlan-ids.js';
import type { CreateNetworkRequest } from '../../proto/gen/weft/v1/controller.js';
import { Network } from '../../proto/gen/weft/v1/types.js';
import { addBackendOptions, backendRequest, type BackendOptions } from '../backend-options.js';
import {
  integer,
  ipOf,
  name,
  networkName,
  networkNames,
  newNetworkName,
  parentOf,
  rangeOf,
  subnetOf,
  vlansOf,
  onOff,
} from '../checks.js';
import { READ_MS, WRITE_MS, type Connector } from '../connect.js';
import { listOf } from '../context.js';
import { inspectAll } from '../inspect-all.js';
import { lists } from '../lists.js';
import { block, ending, indent, indentedTable, listing, type Result } from '../output.js';
import { networkShape } from '../shapes.js';
import { withEvents } from './events.js';
import type { Action } from '../action.js';
import { networkChangeCommands } from './network-change.js';

type CreateOptions = Omit<
  Partial<CreateNetworkRequest>,
  'name' | 'noMasquerade' | 'backend' | 'directRouting' | 'backendOptions'
> &
  BackendOptions & {
    masquerade: boolean;
  };

export function networkCommands(program: Command, action: Action): void {
  const network = program.command('network').description('make, show and remove networks');

  const create = network
    .command('create')
    .description('make a network that containers of all hosts can be attached to')
    .argument('<name>', 'its name: letters, digits, _ and -', newNetworkName)
    .option('--subnet <cidr>', 'its IPv4 addresses, such as 10.100.0.0/16', subnetOf(4, 'subnet'))
    .option(
      '--subnet6 <cidr>',
      'its IPv6 addresses, such as fd42:100::/48; beside --subnet, or alone',
      subnetOf(6, 'subnet6'),
    )
    .addOption(
      new Option(
        '--driver <driver>',
        'overlay: subnets of hosts with tunnels; bridge: each host by itself, or a LAN; vlan: VLANs (802.1Q)',
      ).choices(DRIVER_NAMES),
    )
    .option(
      '--host-prefix <n>',
      'length of the subnet that each node takes (default: 24, or subnet + 2; of a range: 24, or range + 4)',
      integer('host-prefix', 1, 32),
    )
    .option(
      '--host-prefix6 <n>',
      'the same for IPv6 (default: 64, or subnet + 16)',
      integer('host-prefix6', 1, 126),
    )
    .option('--vni <n>', 'VXLAN network identifier (default: a free one)', integer('vni', 1, MAX_VNI))
    .option(
      '--port <udp>',
      'UDP port of the tunnel (default: 8472, and with wireguard and udp a free one)',
      integer('port', 1, 65535),
    )
    .option(
      '--mtu <n>',
      'MTU of containers (default: the underlay’s less the overhead)',
      integer('mtu', 68, 65535),
    )
    .option('--internal', 'nothing outside reaches it, and it reaches nothing outside')
    .option('--no-masquerade', 'containers leave it under their own addresses')
    .option(
      '--port-security <on|off>',
      'whether containers send with their own addresses alone (default: on)',
      onOff('port-security'),
    )
    .option(
      '--direct-access <on|off>',
      'whether the LAN and other bridges reach what is not published (default: on with --no-masquerade, else off)',
      onOff('direct-access'),
    )
    .option(
      '--vlan <id>',
      'the VLAN of a network of the driver vlan',
      integer('vlan', VLAN_IDS.first, VLAN_IDS.last),
    )
    .option(
      '--parent <iface>',
      'each host’s NIC or bridge that a bridge or vlan network leaves through',
      parentOf,
    )
    .option('--range <cidr>', 'give out addresses of this part of the subnet', rangeOf)
    .option(
      '--gateway <ip>',
      'the way out: with --parent a router there, else the host itself',
      ipOf(4, 'gateway'),
    )
    .option(
      '--gateway-node <node>',
      'the host that has the gateway on a VLAN with a parent',
      name('gateway-node'),
    )
    .option('--allow-vlan <ids>', 'VLANs that attach --vlan may ask for, such as 100,200-210', vlansOf)
    .option(
      '--force',
      'also where hosts have other routes inside the subnet, or where the parent carries their own underlay',
    )
    .addHelpText('after', CREATE_HELP)
    .action(
      action(async ({ connect }, [name], options: CreateOptions): Promise<Result> => {
        // Drivers and backends are loaded by this command alone: they hold the codecs of what is in etcd, too.
        const { checkNetwork } = await import('../network-checks.js');
        const { masquerade, encrypted: _encrypted, backendOption: _words, ...rest } = options;
        const carrier = backendRequest(options);
        checkNetwork(name, { ...rest, ...carrier, masquerade });
        const request = {
          ...NOTHING,
          ...rest,
          ...carrier,
          name,
          internal: options.internal ?? false,
          noMasquerade: !masquerade,
        };
        const made = await connect.controller(
          'NetworkService',
          (client) => client.createNetwork,
          request,
          WRITE_MS,
        );
        return { value: networkShape(made), text: () => made.name };
      }),
    );

  addBackendOptions(create);

  lists(network.command('ls'), networkShape(Network.fromPartial({})))
    .alias('list')
    .description('list networks')
    .action(
      action(async ({ connect }): Promise<Result> => {
        const { networks } = await connect.controller(
          'NetworkService',
          (client) => client.listNetworks,
          {},
          READ_MS,
        );
        return networkList(networks);
      }),
    );

  network
    .command('inspect')
    .description('show one network with the subnets of its nodes')
    .argument('<name...>', 'its name', networkNames)
    .action(
      action(
        async ({ connect }, _words, _options, [names]): Promise<Result> =>
          await inspectAll(listOf(names), (name) => inspectNetwork(connect, name)),
      ),
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
          'NetworkService',
          (client) => client.deleteNetwork,
          { name, force },
          WRITE_MS,
        );
        return { value: { name }, text: () => name };
      }),
    );

  networkChangeCommands(network, action);
}

const CREATE_HELP = `
Examples:
  weft network create blue --subnet 10.100.0.0/16
  weft network create web --driver bridge --subnet 10.5.0.0/24
  weft network create lan --driver bridge --parent eth1 --subnet 192.0.2.0/24 --range 192.0.2.128/26 --gateway 192.0.2.1
  weft network create v100 --driver vlan --vlan 100 --parent eth1 --subnet 198.51.100.0/24`;

/** Fields of the request that were not asked for. */
const NOTHING = {
  subnet: '',
  subnet6: undefined,
  driver: undefined,
  hostPrefix: undefined,
  hostPrefix6: undefined,
  vni: undefined,
  port: undefined,
  mtu: undefined,
  vlan: undefined,
  parent: undefined,
  range: undefined,
  gateway: undefined,
  allowVlan: undefined,
  gatewayNode: undefined,
  force: false,
} satisfies Partial<CreateNetworkRequest>;

export async function inspectNetwork(connect: Connector, name: string): Promise<Result> {
  const found = await connect.controller('NetworkService', (client) => client.getNetwork, { name }, READ_MS);
  return await withEvents(connect, ['network', name], {
    value: networkShape(found),
    text: () => networkBlock(found),
  });
}

const networkList = (networks: readonly Network[]): Result =>
  listing(networks, {
    shape: networkShape,
    name: ({ name }) => name,
    columns: {
      NAME: ({ name }) => name,
      DRIVER: ({ driver }) => driver,
      SUBNET: ({ subnet }) => subnet,
      SUBNET6: ({ subnet6 }) => subnet6 ?? '',
      VNI: ({ vni }) => vni ?? '',
      NODES: ({ leases }) => leases.length,
      ENDPOINTS: ({ endpoints }) => endpoints,
    },
    wide: {
      BACKEND: ({ backend }) => backend ?? '',
      PORT: ({ port }) => port ?? '',
      INTERNAL: ({ internal }) => (internal ? 'yes' : 'no'),
      ROUTES: ({ routes }) => routes.join(','),
    },
  });

async function networkBlock(network: Network): Promise<string> {
  const head = block([
    ['Name', network.name],
    ['Driver', network.backend === undefined ? network.driver : `${network.driver} (${network.backend})`],
    ['Subnet', network.subnet === '' ? undefined : subnetText(network)],
    ['VLAN', network.vlan],
    ['Allowed VLANs', network.allowVlan],
    ['Parent', network.parent],
    ['Range', rangeText(network)],
    ['Gateway', gatewayText(network)],
    [
      'Subnet6',
      network.subnet6 === undefined ? undefined : `${network.subnet6}, /${network.hostPrefix6} for each node`,
    ],
    ['Direct routing', network.directRouting === true ? 'yes' : undefined],
    ['Encrypted', network.encrypted === true ? 'yes' : undefined],
    ['VNI', network.vni],
    ['UDP port', network.port],
    ['MTU', network.mtu ?? (network.parent === undefined ? 'as the underlay allows' : 'that of the parent')],
    ['Internal', network.internal ? 'yes' : 'no'],
    ['Masquerade', network.masquerade ? 'yes' : 'no'],
    ['Port security', network.portSecurity ? 'on' : 'off'],
    ['Direct access', network.directAccess ? 'on' : 'off'],
    ['Routed with', network.routes.length === 0 ? undefined : network.routes.join(', ')],
    ['Endpoints', network.endpoints],
  ]);
  const isLate = network.leases.some(({ expires }) => ending(expires) !== '');
  const leases = await indentedTable(
    ['NODE', 'SUBNET', 'SUBNET6', 'PUBLIC IP', 'VTEP MAC', ...(isLate ? ['EXPIRES'] : [])],
    network.leases.map((lease) => [
      lease.node ?? '(flanneld)',
      lease.subnet,
      lease.subnet6 ?? '',
      lease.publicIp,
      lease.vtepMac ?? '',
      ...(isLate ? [ending(lease.expires)] : []),
    ]),
  );
  // What has a backend has subnets that it carries.
  const isOverlay = network.backend !== undefined;
  if (!isOverlay && network.leases.length === 0 && !isShared(network)) return head;
  const title = isOverlay ? 'Subnets of nodes' : 'Blocks of nodes';
  const none = indent('none yet: a node takes one at its first attach');
  return `${head}\n\n${title}:\n${network.leases.length === 0 ? none : leases}`;
}

/** Whether nodes take blocks of a range. */
const isShared = ({ parent, range }: Network): boolean => parent !== undefined && range !== undefined;

function subnetText({ backend, subnet, hostPrefix, parent }: Network): string {
  if (backend !== undefined) return `${subnet}, /${hostPrefix} for each node`;
  return parent === undefined ? `${subnet}, on each node by itself` : subnet;
}

function rangeText(network: Network): string | undefined {
  const { range, hostPrefix, parent } = network;
  if (range !== undefined) return isShared(network) ? `${range}, a /${hostPrefix} at a time` : range;
  return parent === undefined ? undefined : 'none: addresses are asked for with --ip';
}

function gatewayText({ gateway, gatewayNode, parent }: Network): string | undefined {
  if (gateway === undefined) return undefined;
  if (gatewayNode !== undefined) return `${gateway}, on node ${gatewayNode}`;
  return parent === undefined ? `${gateway}, on each node` : gateway;
}
