// Attach requests: parsed and checked field by field.
//
// Every check comes before the first change.
import { IpAddress, parseMac } from '../../core/address.js';
import { parseVlan } from '../../core/drivers/vlan-ids.js';
import { isHost } from '../../core/compile.js';
import { differencesOf, type Comparison } from '../../core/differences.js';
import { alreadyExists, failedPrecondition, invalidArgument } from '../../core/errors.js';
import { bareIn, FAMILIES, subnetIn } from '../../core/families.js';
import { gatewayNodeOf, hasOwnGateway } from '../../core/drivers/index.js';
import { checkLabels, type Labels } from '../../core/labels.js';
import { parseAliases, parseName, parseNetworkName, type Network } from '../../core/network.js';
import {
  ANY_HOST_IP,
  ANY_HOST_IP6,
  MAX_PORTS,
  parsePublish,
  satisfies,
  type PublishRequest,
} from '../../core/publish.js';
import type { Endpoint } from '../../core/records.js';
import { parseAllowed } from '../../core/allowed-address.js';
import { parseIfname } from '../../core/target.js';
import { howToDetach } from './managers.js';
import type { AttachRequest as AttachMessage } from '../../proto/gen/weft/v1/agent.js';

export interface AttachRequest {
  network: string;
  target: string;
  name?: string;
  aliases: string[];
  ip?: IpAddress;
  ip6?: IpAddress;
  mac?: string;
  ifname?: string;
  defaultRoute: boolean;
  /** VLAN of the endpoint's port; absent: the network's. */
  vlan?: number;
  /** Set the namespace's resolv.conf. */
  dns: boolean;
  publish: PublishRequest[];
  /** Publish the ports on every node of the network. */
  everywhere: boolean;
  labels?: Labels;
  /** Prefixes that it may send from beside its own addresses. */
  allowedAddresses?: readonly string[];
}

/** @throws WeftError INVALID_ARGUMENT with the field, the value and what is allowed */
export function parseAttach(message: AttachMessage): AttachRequest {
  return {
    network: parseNetworkName(message.network),
    target: message.target,
    ...(message.name === undefined ? {} : { name: parseName(message.name) }),
    aliases: parseAliases(message.aliases),
    ...(message.ip === undefined ? {} : { ip: parseFamily(message.ip, 4, 'ip') }),
    ...(message.ip6 === undefined ? {} : { ip6: parseFamily(message.ip6, 6, 'ip6') }),
    ...(message.mac === undefined ? {} : { mac: parseMac(message.mac) }),
    ...(message.ifname === undefined ? {} : { ifname: parseIfname(message.ifname) }),
    defaultRoute: !message.noDefaultRoute,
    ...(message.vlan === undefined ? {} : { vlan: parseVlan(message.vlan) }),
    dns: message.dns,
    ...(message.allowedAddresses.length > 0 && { allowedAddresses: parseAllowed(message.allowedAddresses) }),
    ...(Object.keys(message.labels).length > 0 && { labels: checkLabels(message.labels) }),
    ...parsePublishes(message.publish, message.publishEverywhere),
  };
}

/** @throws WeftError INVALID_ARGUMENT */
export function parsePublishes(
  texts: readonly string[],
  everywhere: boolean,
): { publish: PublishRequest[]; everywhere: boolean } {
  const publish = texts.flatMap(parsePublish);
  if (publish.length > MAX_PORTS) {
    throw invalidArgument(
      `publish: ${publish.length} ports are too many for one endpoint`,
      `At most ${MAX_PORTS} are allowed.`,
    );
  }
  const bound = everywhere
    ? publish.find(({ hostIp }) => ![ANY_HOST_IP, ANY_HOST_IP6].includes(hostIp))
    : undefined;
  if (bound !== undefined) {
    throw invalidArgument(
      `publish: ${bound.hostIp} is one node's address, and every node is to open the port`,
      'Leave the address out, or do without --everywhere.',
    );
  }
  return { publish, everywhere };
}

function parseFamily(text: string, family: 4 | 6, field: string): IpAddress {
  const ip = IpAddress.parse(text, field);
  if (ip.family !== family) {
    throw invalidArgument(
      `${field}: ${text} is not an IPv${family} address`,
      `Give it as --${family === 4 ? 'ip6' : 'ip'}.`,
    );
  }
  return ip;
}

/** @throws WeftError INVALID_ARGUMENT if an address that is asked for is not in the network */
export function checkAddresses(request: AttachRequest, network: Network): void {
  for (const family of FAMILIES) {
    const field = family === 4 ? 'ip' : 'ip6';
    const asked = request[field];
    if (asked === undefined) continue;
    const whole = subnetIn(network, family);
    if (whole === undefined)
      throw invalidArgument(
        `${field}: network ${network.name} has no IPv${family} subnet`,
        `Leave --${field} out.`,
      );
    if (!whole.contains(asked))
      throw invalidArgument(
        `${field}: ${asked.toString()} is outside network ${network.name}, which is ${whole.toString()}`,
        `Choose an address inside it, or leave --${field} out.`,
      );
  }
}

/** @throws WeftError FAILED_PRECONDITION if a port of the node cannot lead into the network */
export function checkPublishable(network: Network): void {
  if (!hasOwnGateway(network) || gatewayNodeOf(network) !== undefined) {
    throw failedPrecondition(
      `network ${network.name} has no gateway of this node's own, so no port of the node can lead into it`,
      'Reach its containers at their own addresses, or attach to a second network and publish the port there.',
    );
  }
  if (!network.internal) return;
  throw failedPrecondition(
    `network ${network.name} is internal: nothing outside reaches it, so no port can lead into it`,
    'Attach the container to another network, too, and publish the port there.',
  );
}

/** Accepts a repeated call with the same or fewer options. @throws WeftError ALREADY_EXISTS with the differences */
export function checkSame(request: AttachRequest, there: Endpoint): void {
  const fields = [
    ['name', request.name, there.name],
    ['ip', request.ip?.toString(), bareIn(there, 4)],
    ['ip6', request.ip6?.toString(), bareIn(there, 6)],
    ['mac', request.mac, there.mac],
    ['ifname', request.ifname, there.ifname],
    ['vlan', request.vlan, there.vlan],
  ] satisfies Comparison[];
  const differences = [
    ...differencesOf(fields.filter(([, asked]) => asked !== undefined)),
    ...request.aliases.map((alias) => (there.aliases.includes(alias) ? undefined : `alias ${alias} is new`)),
    ...request.publish.map((asked) =>
      there.publish.some((published) => satisfies(published, asked, request.everywhere))
        ? undefined
        : `${request.everywhere ? 'everywhere, ' : ''}port ${asked.port}/${asked.protocol} is not published so`,
    ),
    ...(request.allowedAddresses ?? []).map((prefix) =>
      there.allowedAddresses?.includes(prefix) === true ? undefined : `allowed address ${prefix} is new`,
    ),
    ...Object.entries(request.labels ?? {}).map(([key, value]) =>
      there.labels?.[key] === value ? undefined : `label ${key}=${value} is new`,
    ),
    !request.defaultRoute && there.defaultRoute ? 'it carries the default route' : undefined,
    request.dns && there.dns !== true ? 'its resolv.conf is not weft’s' : undefined,
  ].filter((difference) => difference !== undefined);
  if (differences.length === 0) return;
  throw alreadyExists(
    `${there.target} is attached to network ${there.network} already, otherwise than asked: ${differences.join('; ')}`,
    toChange(there),
  );
}

function toChange(there: Endpoint): string {
  const { network, target } = there;
  if (isHost(there)) return `To change it: weft hide ${network}, then expose it again.`;
  if (there.manager !== 'weft') return howToDetach(there);
  return `To change it: weft detach ${network} ${target}, then attach again.`;
}
