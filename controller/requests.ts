// What people ask for, checked at the door: every field that is wrong is refused with its name, its value and what is allowed.
import { IpAddress, IpNetwork, parseMac, type Family } from '../core/address.js';
import { invalidArgument, unimplemented } from '../core/errors.js';
import {
  checkUsable,
  MAX_VNI,
  MIN_MTU,
  parseHostPrefix,
  parseInteger,
  parseName,
  parseNetworkName,
} from '../core/network.js';
import { parseNewNetworkName } from '../core/run.js';
import { parseIfname, parseTarget } from '../core/target.js';
import { didYouMean } from '../daemon/suggest.js';
import type { AttachRequest } from '../proto/gen/weft/v1/agent.js';
import type { CreateNetworkRequest } from '../proto/gen/weft/v1/controller.js';
import type { NetworkSpec } from '../store/store.js';

const DRIVERS_TO_COME = ['bridge', 'vlan'];

/** flannel's backends that weft has no counterpart of (pkg/backend). */
const OTHER_BACKENDS = [
  'host-gw',
  'wireguard',
  'udp',
  'ipip',
  'ipsec',
  'extension',
  'alloc',
  'aws-vpc',
  'gce',
  'ali-vpc',
  'tencent-vpc',
];

/** The largest MTU that an Ethernet-like link of Linux can have. */
const MAX_MTU = 65_535;

/** @throws WeftError INVALID_ARGUMENT, UNIMPLEMENTED for what weft knows but does not have */
export function parseCreateNetwork(request: CreateNetworkRequest): NetworkSpec {
  const name = parseNewNetworkName(request.name);
  checkDriver(request.driver ?? 'overlay');
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
    ...(mtu === undefined
      ? {}
      : { mtu: parseInteger(mtu, 'mtu', MIN_MTU[subnet6 === undefined ? 4 : 6], MAX_MTU) }),
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

function checkDriver(driver: string): void {
  if (driver === 'overlay') return;
  if (DRIVERS_TO_COME.includes(driver)) {
    throw unimplemented(`driver: "${driver}" is not served yet`, 'Use the driver overlay.');
  }
  throw invalidArgument(`driver: "${driver}" is not known`, 'Give overlay.');
}

function checkBackend(backend: string): void {
  if (backend === 'vxlan') return;
  if (OTHER_BACKENDS.includes(backend)) {
    throw unimplemented(`backend: "${backend}" is not served yet`, 'Use the backend vxlan.');
  }
  const hint = didYouMean(backend, ['vxlan']);
  throw invalidArgument(`backend: "${backend}" is not known`, hint === '' ? 'Give vxlan.' : hint);
}

/** What can be checked without the node, before it is asked. @throws WeftError INVALID_ARGUMENT */
export function checkAttach(request: AttachRequest): void {
  parseNetworkName(request.network);
  parseTarget(request.target);
  if (request.name !== undefined) parseName(request.name, 'name');
  for (const alias of request.aliases) parseName(alias, 'alias');
  if (request.ip !== undefined) checkFamily(IpAddress.parse(request.ip, 'ip'), 4, 'ip');
  if (request.ip6 !== undefined) checkFamily(IpAddress.parse(request.ip6, 'ip6'), 6, 'ip6');
  if (request.mac !== undefined) parseMac(request.mac);
  if (request.ifname !== undefined) parseIfname(request.ifname);
}

function checkFamily(address: IpAddress, family: Family, field: string): void {
  if (address.family === family) return;
  throw invalidArgument(
    `${field}: ${address.toString()} is not an IPv${family} address`,
    `Give it as ${family === 4 ? 'ip6' : 'ip'}.`,
  );
}
