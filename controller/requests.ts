// Requests of people, parsed and checked: an error names the field, its value and what is allowed.
import { IpAddress, IpNetwork, parseMac, type Family } from '../core/address.js';
import { bridgedNetwork, parseVlan, parseVlans } from '../core/bridged.js';
import { invalidArgument, unimplemented } from '../core/errors.js';
import {
  checkUsable,
  MAX_VNI,
  parseHostPrefix,
  parseInteger,
  parseMtu,
  parseName,
  parseNetworkName,
  type Network,
} from '../core/network.js';
import { parseNewNetworkName } from '../core/run.js';
import { parseIfname, parseTarget } from '../core/target.js';
import { parseBackend } from '../daemon/backend.js';
import { didYouMean } from '../daemon/suggest.js';
import type { AttachRequest } from '../proto/gen/weft/v1/agent.js';
import type { CreateNetworkRequest } from '../proto/gen/weft/v1/controller.js';
import type { NetworkSpec } from '../store/store.js';

/** @throws WeftError INVALID_ARGUMENT, UNIMPLEMENTED for what weft knows but does not have */
export function parseCreateNetwork(request: CreateNetworkRequest): NetworkSpec {
  const name = parseNewNetworkName(request.name);
  const driver = parseDriver(request.driver ?? 'overlay');
  if (driver !== 'overlay') return parseBridged(name, driver, request);
  refuseBridged(request);
  checkBackend(request.backend ?? 'vxlan');
  const subnet = parseSubnet(request.subnet, 4, 'subnet');
  const subnet6 = request.subnet6 === undefined ? undefined : parseSubnet(request.subnet6, 6, 'subnet6');
  const { hostPrefix, hostPrefix6, vni, port, mtu, internal, noMasquerade } = request;
  parseHostPrefix(subnet, hostPrefix, 'host-prefix');
  if (subnet6 !== undefined) parseHostPrefix(subnet6, hostPrefix6, 'host-prefix6');
  else if (hostPrefix6 !== undefined) {
    throw invalidArgument(
      `host-prefix6: ${hostPrefix6} is for a network with IPv6`,
      'Give subnet6, too, or leave it out.',
    );
  }
  return {
    name,
    subnet,
    ...(subnet6 === undefined ? {} : { subnet6 }),
    ...(hostPrefix === undefined ? {} : { hostPrefix }),
    ...(hostPrefix6 === undefined ? {} : { hostPrefix6 }),
    ...(vni === undefined ? {} : { vni: parseInteger(vni, 'vni', 1, MAX_VNI) }),
    ...(port === undefined ? {} : { port: parseInteger(port, 'port', 1, 65_535) }),
    ...(mtu === undefined ? {} : { mtu: parseMtu(mtu, subnet6 !== undefined) }),
    internal,
    masquerade: !noMasquerade,
  };
}

function parseSubnet(text: string, family: Family, field: string): IpNetwork {
  if (text === '')
    throw invalidArgument(
      `${field}: not given`,
      'Give the prefix that the containers are to have, such as 10.100.0.0/16.',
    );
  const subnet = IpNetwork.parse(text, field);
  if (subnet.family !== family) {
    const other =
      family === 4
        ? 'Give an IPv4 prefix, and the IPv6 one as subnet6.'
        : 'Give an IPv6 prefix, such as fd42:100::/48.';
    throw invalidArgument(`${field}: "${text}" is not an IPv${family} prefix`, other);
  }
  checkUsable(subnet, field);
  return subnet;
}

function parseDriver(driver: string): Network['driver'] {
  if (driver === 'overlay' || driver === 'bridge' || driver === 'vlan') return driver;
  const hint = didYouMean(driver, ['overlay', 'bridge', 'vlan']);
  throw invalidArgument(
    `driver: "${driver}" is not known`,
    hint === '' ? 'Give overlay, bridge or vlan.' : hint,
  );
}

/** Refuses options of the other drivers. */
function refuseBridged(request: CreateNetworkRequest): void {
  const { vlan, parent, range, gateway, allowVlan, gatewayNode, force } = request;
  const given = Object.entries({
    vlan,
    parent,
    range,
    gateway,
    'allow-vlan': allowVlan,
    'gateway-node': gatewayNode,
    force: force ? true : undefined,
  }).find(([, value]) => value !== undefined);
  if (given === undefined) return;
  throw invalidArgument(
    `${given[0]}: the driver overlay has none`,
    'Leave it out, or give the driver bridge or vlan.',
  );
}

function parseBridged(name: string, driver: 'bridge' | 'vlan', request: CreateNetworkRequest): NetworkSpec {
  const { backend, vni, port, hostPrefix, hostPrefix6, mtu, vlan, parent, gatewayNode } = request;
  const given = Object.entries({ backend, vni, port, 'host-prefix6': hostPrefix6 }).find(
    ([, value]) => value !== undefined,
  );
  if (given !== undefined)
    throw invalidArgument(`${given[0]}: the driver ${driver} has none`, 'Leave it out.');
  const spec = {
    name,
    driver,
    subnet: parseSubnet(request.subnet, 4, 'subnet'),
    ...(request.subnet6 !== undefined && { subnet6: parseSubnet(request.subnet6, 6, 'subnet6') }),
    ...(request.range !== undefined && { range: IpNetwork.parse(request.range, 'range') }),
    ...(request.gateway !== undefined && { gateway: IpAddress.parse(request.gateway, 'gateway') }),
    ...(request.allowVlan !== undefined && { allowVlan: parseVlans(request.allowVlan) }),
    ...(hostPrefix !== undefined && { hostPrefix }),
    ...(mtu !== undefined && { mtu }),
    ...(vlan !== undefined && { vlan }),
    ...(parent !== undefined && { parent }),
    ...(gatewayNode !== undefined && { gatewayNode }),
    internal: request.internal,
    masquerade: !request.noMasquerade,
    force: request.force,
  };
  // The whole spec: options that do not fit together are refused here.
  bridgedNetwork(spec);
  return spec;
}

function checkBackend(backend: string): void {
  if (parseBackend(backend) !== 'vxlan')
    throw unimplemented(`backend: "${backend}" is not served yet`, 'Use the backend vxlan.');
}

/** Checks what can be checked without the node. @throws WeftError INVALID_ARGUMENT */
export function checkAttach(request: AttachRequest): void {
  parseNetworkName(request.network);
  parseTarget(request.target);
  if (request.name !== undefined) parseName(request.name, 'name');
  for (const alias of request.aliases) parseName(alias, 'alias');
  if (request.ip !== undefined) checkFamily(IpAddress.parse(request.ip, 'ip'), 4, 'ip');
  if (request.ip6 !== undefined) checkFamily(IpAddress.parse(request.ip6, 'ip6'), 6, 'ip6');
  if (request.mac !== undefined) parseMac(request.mac);
  if (request.vlan !== undefined) parseVlan(request.vlan);
  if (request.ifname !== undefined) parseIfname(request.ifname);
}

function checkFamily(address: IpAddress, family: Family, field: string): void {
  if (address.family === family) return;
  throw invalidArgument(
    `${field}: ${address.toString()} is not an IPv${family} address`,
    `Give it as ${family === 4 ? 'ip6' : 'ip'}.`,
  );
}
