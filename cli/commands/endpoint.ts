// weft endpoint ls | inspect, weft attach, weft detach
import type { Command } from 'commander';

import { invalidArgument, WeftError } from '../../core/errors.js';
import { formatPublished } from '../../core/publish.js';
import { Endpoint } from '../../proto/gen/weft/v1/types.js';
import { addAttachOptions, attachRequestOf, type AttachOptions } from '../attach-options.js';
import { labelChanges, name, networkName, prefixesOrNone, target, type LabelChanges } from '../checks.js';
import { READ_MS, WRITE_MS, type Connector } from '../connect.js';
import { listOf } from '../context.js';
import { findOne, readCluster } from '../find.js';
import { inspectAll } from '../inspect-all.js';
import { lists } from '../lists.js';
import type { Action } from '../action.js';
import { block, listing, printWarning, type Result } from '../output.js';
import { endpointShape } from '../shapes.js';
import { withEvents } from './events.js';

export function endpointCommands(program: Command, action: Action): void {
  const endpoint = program.command('endpoint').description('show attached containers');

  lists(endpoint.command('ls'), endpointShape(Endpoint.fromPartial({})))
    .alias('list')
    .description('list attached containers of all hosts')
    .option('--network <name>', 'only of this network', networkName)
    .option('--node <name>', 'only of this node', name('node'))
    .action(
      action(
        async (
          { connect },
          _words,
          { network = '', node = '' }: { network?: string; node?: string },
        ): Promise<Result> => {
          const { endpoints } = await connect.controller(
            'EndpointService',
            (client) => client.listEndpoints,
            { network, node },
            READ_MS,
          );
          return endpointList(endpoints);
        },
      ),
    );

  endpoint
    .command('inspect')
    .description('show one attached container')
    .argument('<place...>', 'its id, name, NAME.NETWORK, address, interface, or TARGET')
    .action(
      action(
        async ({ connect }, _words, _options, [places]): Promise<Result> =>
          await inspectAll(listOf(places), (place) => inspectEndpoint(connect, place)),
      ),
    );

  endpoint
    .command('update')
    .description('change an attached container; its node must be up')
    .argument('<id>', 'its id, the beginning of it, or a name that only one has')
    .option(
      '--allowed-address <cidr>',
      'further addresses that it may send from, in place of those it has; none for no others; may be repeated',
      prefixesOrNone,
    )
    .option(
      '--label <key=value|key->',
      'a label that it gets, or, with - behind the key, that it loses; may be repeated',
      labelChanges,
    )
    .action(
      action(
        async (
          { connect },
          [id],
          { allowedAddress, label }: { allowedAddress?: string[]; label?: LabelChanges },
        ): Promise<Result> => {
          if (allowedAddress === undefined && label === undefined)
            throw invalidArgument('nothing is to be changed', 'Give --allowed-address or --label.');
          const changed = await connect.controller(
            'EndpointService',
            (client) => client.updateEndpoint,
            {
              id,
              allowedAddresses: allowedAddress ?? [],
              keepAllowedAddresses: allowedAddress === undefined,
              labels: label?.given ?? {},
              removedLabels: label?.taken ?? [],
            },
            WRITE_MS,
          );
          return { value: endpointShape(changed), text: () => endpointBlock(changed) };
        },
      ),
    );

  const attach = program
    .command('attach')
    .description('attach a running container of this host to a network')
    .argument('<network>', 'the network', networkName)
    .argument(
      '<target>',
      'netns:/PATH, pid:N, docker:NAME, run:NAME, or the name of a container or namespace',
      target,
    );
  addAttachOptions(attach).action(
    action(async ({ connect }, [network, to], options: AttachOptions): Promise<Result> => {
      const request = attachRequestOf(network, to, options);
      const made = await connect.agent(
        'AgentService',
        (client) => client.attach,
        request,
        WRITE_MS,
        'attach',
      );
      made.warnings.forEach(printWarning);
      return { value: endpointShape(made), text: () => endpointBlock(made) };
    }),
  );

  program
    .command('detach')
    .description('detach a container of this host from a network')
    .argument('<network>', 'the network', networkName)
    .argument('<target>', 'as it was attached', target)
    .action(
      action(async ({ connect }, [network, to]): Promise<Result> => {
        const { endpoint: gone } = await connect.agent(
          'AgentService',
          (client) => client.detach,
          { network, target: to },
          WRITE_MS,
          'detach',
        );
        return { value: gone === undefined ? null : endpointShape(gone), text: () => gone?.name ?? to };
      }),
    );
}

/** @param place anything by which it is found */
export async function inspectEndpoint(connect: Connector, place: string): Promise<Result> {
  const found = await getEndpoint(connect, place);
  return await withEvents(connect, ['endpoint', `${found.name}.${found.network}`], {
    value: endpointShape(found),
    text: () => endpointBlock(found),
  });
}

async function getEndpoint(connect: Connector, place: string): Promise<Endpoint> {
  const get = (id: string): Promise<Endpoint> =>
    connect.controller('EndpointService', (client) => client.getEndpoint, { id }, READ_MS);
  try {
    return await get(place);
  } catch (error) {
    // The controller knows ids and names alone.
    const isElse =
      error instanceof WeftError && (error.code === 'NOT_FOUND' || error.code === 'FAILED_PRECONDITION');
    if (!isElse) throw error;
    const { endpoints } = await readCluster(connect);
    const found = await findOne(connect, place, { endpoints, nodes: [] });
    return await get(found.kind === 'endpoint' ? found.endpoint.id : place);
  }
}

const endpointList = (endpoints: readonly Endpoint[]): Result =>
  listing(endpoints, {
    shape: endpointShape,
    name: ({ name, network }) => `${name}.${network}`,
    columns: {
      ID: ({ id }) => id.slice(0, 12),
      NAME: ({ name }) => name,
      NETWORK: ({ network }) => network,
      NODE: ({ node }) => node,
      IP: ({ ip }) => ip,
      IP6: ({ ip6 }) => ip6 ?? '',
      IFNAME: ({ ifname }) => ifname,
      TARGET: ({ target }) => target,
    },
    wide: {
      MAC: ({ mac }) => mac,
      'HOST IFNAME': ({ hostIfname }) => hostIfname,
      MANAGER: ({ manager }) => manager ?? 'weft',
      ALIASES: ({ aliases }) => aliases.join(','),
      LABELS: ({ labels }) =>
        Object.entries(labels)
          .map(([key, value]) => `${key}=${value}`)
          .join(','),
    },
  });

export const endpointBlock = (it: Endpoint): string =>
  block([
    ['ID', it.id],
    ['Name', it.name],
    ['Aliases', it.aliases.join(', ')],
    ['Network', it.network],
    ['Node', it.node],
    ['Target', it.target],
    ['Interface', `${it.ifname} (on the node: ${it.hostIfname})`],
    ['IP', it.ip || undefined],
    ['IP6', it.ip6],
    ['Gateway', it.gateway === '' ? undefined : it.gateway],
    ['VLAN', it.vlan],
    ['MAC', it.mac],
    ['MTU', it.mtu],
    ['Manager', it.manager === 'weft' ? undefined : it.manager],
    [
      'Labels',
      Object.entries(it.labels)
        .map(([key, value]) => `${key}=${value}`)
        .join(', '),
    ],
    ['Allowed addresses', it.allowedAddresses.join(', ') || undefined],
    ['Dropped', it.drops.map(({ reason, packets }) => `${packets} (${reason})`).join(', ') || undefined],
    ['Ports', it.publish.length === 0 ? undefined : portsText(it)],
  ]);

/** At most a few: a thousand lines would fill the screen. */
function portsText({ publish, name }: Endpoint): string {
  const shown = publish.slice(0, 8).map((one) => {
    const protocol = one.protocol === 'udp' ? 'udp' : 'tcp';
    return `${formatPublished({ ...one, protocol })}${one.everywhere ? ' everywhere' : ''}`;
  });
  const rest = publish.length - shown.length;
  return rest > 0 ? `${shown.join(', ')} and ${rest} more (weft port ls ${name})` : shown.join(', ');
}
