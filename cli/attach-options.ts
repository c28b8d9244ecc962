// Options of an attach, shared by `weft attach` and `weft run`.
import type { Command } from 'commander';

import { invalidArgument } from '../core/errors.js';
import { ANY_HOST_IP, ANY_HOST_IP6, parsePublish } from '../core/publish.js';
import type { AttachRequest } from '../proto/gen/weft/v1/agent.js';
import { VLAN_IDS } from '../core/drivers/vlan-ids.js';
import { ifname, integer, ipOf, labels, mac, name, names, prefixes, publishes } from './checks.js';

export interface AttachOptions {
  name?: string;
  alias?: string[];
  ip?: string;
  ip6?: string;
  mac?: string;
  ifname?: string;
  defaultRoute: boolean;
  vlan?: number;
  dns?: boolean;
  publish?: string[];
  everywhere?: boolean;
  allowedAddress?: string[];
  label?: Record<string, string>;
}

export function addAttachOptions(command: Command): Command {
  return command
    .option('--name <name>', 'its name in the network, unique there (default: the container’s)', name())
    .option('--alias <name>', 'another name; may be repeated', names('alias'))
    .option('--ip <ip>', 'its IPv4 address (default: a free one of this node’s subnet)', ipOf(4, 'ip'))
    .option('--ip6 <ip>', 'its IPv6 address', ipOf(6, 'ip6'))
    .option('--mac <mac>', 'its MAC address (default: made from the address)', mac)
    .option('--ifname <name>', 'its interface (default: eth0, or the next that is free)', ifname)
    .option(
      '--publish <[hostip:]hostport:port[/udp]>',
      'open a port of this host that leads to it; ranges too, PORT alone for a chosen one; may be repeated',
      publishes,
    )
    .option('--everywhere', 'every host of the network opens what is published')
    .option('--no-default-route', 'leave the container’s default route alone')
    .option('--dns', 'set the resolv.conf of a namespace (/etc/netns/NAME), and put it back at the detach')
    .option(
      '--vlan <id>',
      'another VLAN of the same bridge, where the network allows it',
      integer('vlan', VLAN_IDS.first, VLAN_IDS.last),
    )
    .option(
      '--allowed-address <cidr>',
      'further addresses that it may send from, such as a router’s networks; may be repeated',
      prefixes,
    )
    .option('--label <key=value>', 'what it is, for policies; may be repeated', labels);
}

/** A port that every host opens cannot name one host's address. @throws WeftError INVALID_ARGUMENT */
export function checkEverywhere(texts: readonly string[], everywhere: boolean | undefined): void {
  const anyIp = [ANY_HOST_IP, ANY_HOST_IP6];
  const bound = texts.find((text) => parsePublish(text).some(({ hostIp }) => !anyIp.includes(hostIp)));
  if (everywhere !== true || bound === undefined) return;
  throw invalidArgument(
    `publish: "${bound}" names an address of one host, and every host is to open the port`,
    'Leave the address out, or do without --everywhere.',
  );
}

export function attachRequestOf(network: string, target: string, options: AttachOptions): AttachRequest {
  if (options.everywhere === true && options.publish === undefined) {
    throw invalidArgument('--everywhere: nothing is published', 'Give --publish, too.');
  }
  checkEverywhere(options.publish ?? [], options.everywhere);
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
    publish: options.publish ?? [],
    publishEverywhere: options.everywhere ?? false,
    vlan: options.vlan,
    dns: options.dns ?? false,
    allowedAddresses: options.allowedAddress ?? [],
    labels: options.label ?? {},
  };
}
