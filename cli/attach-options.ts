// What can be said about an attach, on the command line: `weft attach` and `weft run` take the same options.
import type { Command } from 'commander';

import type { AttachRequest } from '../proto/gen/weft/v1/agent.js';
import { VLAN_IDS } from '../core/bridged.js';
import { ifname, integer, ipOf, mac, name, names } from './checks.js';

export interface AttachOptions {
  name?: string;
  alias?: string[];
  ip?: string;
  ip6?: string;
  mac?: string;
  ifname?: string;
  defaultRoute: boolean;
  vlan?: number;
}

export function addAttachOptions(command: Command): Command {
  return command
    .option('--name <name>', 'its name in the network, unique there (default: the container’s)', name())
    .option('--alias <name>', 'another name; may be repeated', names('alias'))
    .option('--ip <ip>', 'its IPv4 address (default: a free one of this node’s subnet)', ipOf(4, 'ip'))
    .option('--ip6 <ip>', 'its IPv6 address', ipOf(6, 'ip6'))
    .option('--mac <mac>', 'its MAC address (default: made from the address)', mac)
    .option('--ifname <name>', 'its interface (default: eth0, or the next that is free)', ifname)
    .option('--no-default-route', 'leave the container’s default route alone')
    .option(
      '--vlan <id>',
      'another VLAN of the same bridge, where the network allows it',
      integer('vlan', VLAN_IDS.first, VLAN_IDS.last),
    );
}

export function attachRequestOf(network: string, target: string, options: AttachOptions): AttachRequest {
  return {
    network,
    target,
    name: options.name,
    aliases: options.alias ?? [],
    ip: options.ip,
    ip6: options.ip6,
    mac: options.mac,
    ifname: options.ifname,
    noDefaultRoute: !options.defaultRoute,
    publish: [],
    vlan: options.vlan,
    dns: false,
  };
}
