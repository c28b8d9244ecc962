// weft endpoint ls | inspect, weft attach, weft detach
import type { Command } from 'commander';

import { AgentServiceClient, type AttachRequest } from '../../proto/gen/weft/v1/agent.js';
import { EndpointServiceClient } from '../../proto/gen/weft/v1/controller.js';
import type { Endpoint } from '../../proto/gen/weft/v1/types.js';
import { ifname, ipOf, mac, name, names, networkName, target } from '../checks.js';
import { READ_MS, WRITE_MS } from '../connect.js';
import type { Action } from '../main.js';
import { block, table, type Result } from '../output.js';
import { endpointShape } from '../shapes.js';

type AttachOptions = Partial<Omit<AttachRequest, 'network' | 'target' | 'aliases' | 'noDefaultRoute'>> & {
  alias?: string[];
  defaultRoute: boolean;
};

export function endpointCommands(program: Command, action: Action): void {
  const endpoint = program.command('endpoint').description('show attached containers');

  endpoint
    .command('ls')
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
            EndpointServiceClient,
            (client) => client.listEndpoints,
            { network, node },
            READ_MS,
          );
          return { value: endpoints.map(endpointShape), text: () => endpointTable(endpoints) };
        },
      ),
    );

  endpoint
    .command('inspect')
    .description('show one attached container')
    .argument('<id>', 'its id, the beginning of it, or a name that only one has')
    .action(
      action(async ({ connect }, [id]): Promise<Result> => {
        const found = await connect.controller(
          EndpointServiceClient,
          (client) => client.getEndpoint,
          { id },
          READ_MS,
        );
        return { value: endpointShape(found), text: () => endpointBlock(found) };
      }),
    );

  program
    .command('attach')
    .description('attach a running container of this host to a network')
    .argument('<network>', 'the network', networkName)
    .argument('<target>', 'netns:/PATH, pid:N, docker:NAME, or the name of a container or namespace', target)
    .option('--name <name>', 'its name in the network, unique there (default: the container’s)', name())
    .option('--alias <name>', 'another name; may be repeated', names('alias'))
    .option('--ip <ip>', 'its IPv4 address (default: a free one of this node’s subnet)', ipOf(4, 'ip'))
    .option('--ip6 <ip>', 'its IPv6 address', ipOf(6, 'ip6'))
    .option('--mac <mac>', 'its MAC address (default: made from the address)', mac)
    .option('--ifname <name>', 'its interface (default: eth0, or the next that is free)', ifname)
    .option('--no-default-route', 'leave the container’s default route alone')
    .action(
      action(async ({ connect }, [network, to], options: AttachOptions): Promise<Result> => {
        const { alias, defaultRoute, name: asked, ip, ip6, mac: macAddress, ifname: link } = options;
        const request: AttachRequest = {
          network,
          target: to,
          name: asked,
          aliases: alias ?? [],
          ip,
          ip6,
          mac: macAddress,
          ifname: link,
          noDefaultRoute: !defaultRoute,
        };
        const made = await connect.agent(AgentServiceClient, (client) => client.attach, request, WRITE_MS);
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
          AgentServiceClient,
          (client) => client.detach,
          { network, target: to },
          WRITE_MS,
        );
        return { value: gone === undefined ? null : endpointShape(gone), text: () => gone?.name ?? to };
      }),
    );
}

const endpointTable = (endpoints: readonly Endpoint[]): Promise<string> =>
  table(
    ['ID', 'NAME', 'NETWORK', 'NODE', 'IP', 'IP6', 'IFNAME', 'TARGET'],
    endpoints.map((it) => [
      it.id.slice(0, 12),
      it.name,
      it.network,
      it.node,
      it.ip,
      it.ip6 ?? '',
      it.ifname,
      it.target,
    ]),
  );

const endpointBlock = (it: Endpoint): string =>
  block([
    ['ID', it.id],
    ['Name', it.name],
    ['Aliases', it.aliases.join(', ')],
    ['Network', it.network],
    ['Node', it.node],
    ['Target', it.target],
    ['Interface', `${it.ifname} (on the node: ${it.hostIfname})`],
    ['IP', it.ip],
    ['IP6', it.ip6],
    ['Gateway', it.gateway],
    ['MAC', it.mac],
    ['MTU', it.mtu],
  ]);
