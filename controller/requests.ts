// Requests of people, parsed and checked: an error names the field, its value and what is allowed.
import { parseAllowed } from '../core/allowed-address.js';
import { checkLabels } from '../core/labels.js';
import { IpAddress, IpNetwork, parseMac, type Family } from '../core/address.js';
import { BACKEND_TYPES, isBackend } from '../core/backends/index.js';
import type { BackendType } from '../core/backends/types.js';
import { DRIVER_NAMES, isDriver, networkOf, type DriverName } from '../core/drivers/index.js';
import { parseVlan, parseVlans } from '../core/drivers/vlan-ids.js';
import { invalidArgument, unimplemented } from '../core/errors.js';
import {
  checkUsable,
  parseAliases,
  parseName,
  prefixesFrom,
  parseNetworkName,
  type NetworkSpec,
} from '../core/network.js';
import { parseNewNetworkName } from '../core/run.js';
import { parseIfname, parseTarget } from '../core/target.js';
import { parseBackend } from '../daemon/backend.js';
import { didYouMean } from '../daemon/suggest.js';
import type { AttachRequest } from '../proto/gen/weft/v1/agent.js';
import type { CreateNetworkRequest } from '../proto/gen/weft/v1/controller.js';

/** @throws WeftError INVALID_ARGUMENT, UNIMPLEMENTED for what weft knows but does not have */
export function parseCreateNetwork(request: CreateNetworkRequest): NetworkSpec {
  const { hostPrefix, hostPrefix6, vni, port, mtu, vlan, parent, gatewayNode } = request;
  const name = parseNewNetworkName(request.name);
  const driver = request.driver === undefined ? undefined : parseDriver(request.driver);
  const backend = request.backend === undefined ? undefined : parseServed(request.backend);
  const subnet = request.subnet === '' ? undefined : parseSubnet(request.subnet, 4, 'subnet');
  const subnet6 = request.subnet6 === undefined ? undefined : parseSubnet(request.subnet6, 6, 'subnet6');
  const spec: NetworkSpec = {
    name,
    ...prefixesFrom({ subnet, subnet6, hostPrefix, hostPrefix6 }),
    ...(driver !== undefined && { driver }),
    ...(backend !== undefined && { backend }),
    ...(vni !== undefined && { vni }),
    ...(port !== undefined && { port }),
    ...(mtu !== undefined && { mtu }),
    ...(request.range !== undefined && { range: IpNetwork.parse(request.range, 'range') }),
    ...(request.gateway !== undefined && { gateway: IpAddress.parse(request.gateway, 'gateway') }),
    ...(request.allowVlan !== undefined && { allowVlan: parseVlans(request.allowVlan) }),
    ...(vlan !== undefined && { vlan }),
    ...(parent !== undefined && { parent }),
    ...(gatewayNode !== undefined && { gatewayNode }),
    ...(request.directRouting && { directRouting: true }),
    ...(Object.keys(request.backendOptions).length > 0 && { backendOptions: request.backendOptions }),
    internal: request.internal,
    masquerade: !request.noMasquerade,
    ...(request.portSecurity !== undefined && { portSecurity: request.portSecurity }),
    ...(request.directAccess !== undefined && { directAccess: request.directAccess }),
    ...(request.force && { force: true }),
  };
  // Whole, so that what does not fit together is told here.
  networkOf(spec);
  return spec;
}

function parseSubnet(text: string, family: Family, field: string): IpNetwork {
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

function parseDriver(driver: string): DriverName {
  if (isDriver(driver)) return driver;
  const hint = didYouMean(driver, DRIVER_NAMES);
  throw invalidArgument(
    `driver: "${driver}" is not known`,
    hint === '' ? `Give ${DRIVER_NAMES.slice(0, -1).join(', ')} or ${DRIVER_NAMES.at(-1)}.` : hint,
  );
}

function parseServed(text: string): BackendType {
  const backend = parseBackend(text);
  if (isBackend(backend)) return backend;
  throw unimplemented(
    `backend: "${backend}" is not served yet`,
    `Use the backend ${BACKEND_TYPES.join(' or ')}.`,
  );
}

/** Checks what can be checked without the node. @throws WeftError INVALID_ARGUMENT */
export function checkAttach(request: AttachRequest): void {
  parseNetworkName(request.network);
  parseTarget(request.target);
  if (request.name !== undefined) parseName(request.name, 'name');
  parseAliases(request.aliases);
  parseAllowed(request.allowedAddresses);
  checkLabels(request.labels);
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
