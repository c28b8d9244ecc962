// Complete records for tests, from the few fields that a test concerns.
import { addressBits, IpAddress, IpNetwork, parseInterface } from '../../core/address.js';
import type { LeaseData } from '../../core/backends/types.js';
import { vtepMac } from '../../core/backends/vxlan.js';
import { hostIfname, macOf, type Membership } from '../../core/compile.js';
import { backendTypeOf, networkOf } from '../../core/drivers/index.js';
import {
  defaultHostPrefix,
  parseRange,
  prefixesOf,
  type BridgedNetwork,
  type Network,
  type NetworkSpec,
  type OverlayNetwork,
} from '../../core/network.js';
import type { Claim, Endpoint, Lease } from '../../core/records.js';

export interface NetworkFields extends Partial<Omit<OverlayNetwork<'vxlan'>, 'subnet' | 'subnet6'>> {
  subnet?: string;
  subnet6?: string;
}

export function overlay({
  subnet = '10.100.0.0/16',
  subnet6,
  ...fields
}: NetworkFields = {}): OverlayNetwork<'vxlan'> {
  const four = IpNetwork.parse(subnet);
  const hostPrefix = fields.hostPrefix ?? defaultHostPrefix(four);
  const six = subnet6 === undefined ? undefined : IpNetwork.parse(subnet6);
  const hostPrefix6 = six === undefined ? undefined : (fields.hostPrefix6 ?? defaultHostPrefix(six));
  return {
    name: 'blue',
    driver: 'overlay',
    backend: 'vxlan',
    subnet: four,
    hostPrefix,
    range: parseRange(four, hostPrefix, undefined, undefined),
    ...(six === undefined || hostPrefix6 === undefined
      ? {}
      : { subnet6: six, hostPrefix6, range6: parseRange(six, hostPrefix6, undefined, undefined) }),
    vni: 4097,
    port: 8472,
    internal: false,
    masquerade: true,
    ...fields,
  };
}

/** A public key that tests can read: the letter repeated. */
export const keyOf = (letter: string): string => `${letter.repeat(42)}A=`;

/** An overlay of the backend wireguard; node `nN` has the N-th letter's key. */
export function wireguard(
  fields: { name?: string; subnet?: string; subnet6?: string; port?: number } & Partial<
    Pick<OverlayNetwork<'wireguard'>, 'mode' | 'psk' | 'keepalive'>
  > = {},
): OverlayNetwork<'wireguard'> {
  const { name = 'wg', subnet = '10.120.0.0/16', subnet6, port = 51820, ...rest } = fields;
  const network = networkOf({
    name,
    backend: 'wireguard',
    subnet: IpNetwork.parse(subnet),
    port,
    ...(subnet6 === undefined ? {} : { subnet6: IpNetwork.parse(subnet6) }),
  }) as OverlayNetwork<'wireguard'>;
  return { ...network, ...rest };
}

/** An overlay of the backend udp. */
export const udp = ({ name = 'ud', subnet = '10.110.0.0/16', port = 8285 } = {}): OverlayNetwork<'udp'> =>
  networkOf({
    name,
    backend: 'udp',
    subnet: IpNetwork.parse(subnet),
    port,
  }) as OverlayNetwork<'udp'>;

/** An overlay of the backend ipip. */
export const ipip = ({
  name = 'ip',
  subnet = '10.110.0.0/16',
  directRouting = false,
} = {}): OverlayNetwork<'ipip'> =>
  networkOf({
    name,
    backend: 'ipip',
    subnet: IpNetwork.parse(subnet),
    directRouting,
  }) as OverlayNetwork<'ipip'>;

/** An overlay of the backend host-gw. */
export function hostGw({
  name = 'gw',
  subnet = '10.110.0.0/16',
  subnet6,
}: {
  name?: string;
  subnet?: string;
  subnet6?: string;
} = {}): OverlayNetwork<'host-gw'> {
  const six = subnet6 === undefined ? {} : { subnet6: IpNetwork.parse(subnet6) };
  return networkOf({
    name,
    backend: 'host-gw',
    subnet: IpNetwork.parse(subnet),
    ...six,
  }) as OverlayNetwork<'host-gw'>;
}

export interface BridgedFields extends Partial<
  Omit<NetworkSpec, 'subnet' | 'subnet6' | 'range' | 'gateway' | 'driver'>
> {
  subnet?: string;
  subnet6?: string;
  range?: string;
  gateway?: string;
}

/** A network of the drivers bridge and vlan. */
export function bridged(driver: 'bridge' | 'vlan', fields: BridgedFields = {}): BridgedNetwork {
  const { subnet = '198.51.100.0/24', subnet6, range, gateway, ...rest } = fields;
  return networkOf({
    name: 'lan',
    driver,
    ...(driver === 'vlan' ? { vlan: 100 } : {}),
    subnet: IpNetwork.parse(subnet),
    ...(subnet6 === undefined ? {} : { subnet6: IpNetwork.parse(subnet6) }),
    ...(range === undefined ? {} : { range: IpNetwork.parse(range) }),
    ...(gateway === undefined ? {} : { gateway: IpAddress.parse(gateway) }),
    ...rest,
  }) as BridgedNetwork;
}

/**
 * The lease of node `nN`: its n-th subnet of the network, and 192.0.2.N and 2001:db8::N on the underlay. In a network of IPv6
 * alone the underlay has no IPv4 either.
 */
export function leaseOf(network: Network, n: number, fields: Partial<Lease> = {}): Lease {
  const publicIp6 = IpAddress.parse(`2001:db8::${n.toString(16)}`);
  const nth = (whole: IpNetwork, prefix: number): IpNetwork =>
    IpNetwork.of(whole.at(BigInt(n) << BigInt(addressBits(whole.family) - prefix)), prefix);
  return {
    network: network.name,
    subnet: nth(network.subnet, network.hostPrefix),
    publicIp: network.subnet.family === 4 ? IpAddress.parse(`192.0.2.${n}`) : publicIp6,
    backendType: backendTypeOf(network),
    ...dataOf(network, n),
    ...(network.subnet6 === undefined
      ? {}
      : { subnet6: nth(network.subnet6, network.hostPrefix6 ?? 64), publicIp6 }),
    node: `n${n}`,
    instance: `instance-${n}`,
    reservation: false,
    ...fields,
  };
}

/** What the node's lease says of its VTEPs, where it has some. @param n the last byte of their MAC addresses */
export function dataOf(network: Network, n: number, vni?: number): { data?: LeaseData } {
  if ('port6' in network) {
    const publicKey = keyOf(String.fromCharCode(64 + n));
    const port = { 4: network.port, 6: network.mode === undefined ? network.port6 : network.port };
    const ends = prefixesOf(network).map(
      ({ family }) => [family, { publicKey, port: port[family] }] as const,
    );
    return { data: { type: 'wireguard', ...Object.fromEntries(ends) } };
  }
  if (!('vni' in network)) return {};
  const vtep = (family: 4 | 6): { vni: number; mac: string } => ({
    vni: vni ?? network.vni,
    mac: `02:00:00:00:0${family}:${n.toString(16).padStart(2, '0')}`,
  });
  const ends = prefixesOf(network).map(({ family }) => [family, vtep(family)] as const);
  return { data: { type: 'vxlan', ...Object.fromEntries(ends) } };
}

/** Node n1 in the network. */
export function membershipOf(
  network: Network,
  fields: Partial<Membership['underlay']> = {},
  lease = leaseOf(network, 1),
): Membership {
  const underlay = {
    ip: IpAddress.parse('192.0.2.1'),
    ip6: IpAddress.parse('2001:db8::1'),
    mtu: 1500,
    link: 'eth0',
    onLink: ['192.0.2.0/24', '2001:db8::/64'].map((text) => ({
      link: 'eth0',
      prefix: IpNetwork.parse(text),
    })),
    ...fields,
  };
  return { network, lease, underlay };
}

/** Node n1 where the underlay has no IPv4. */
export function membershipOfIpv6(network: Network): Membership {
  const { ip6: _second, ...underlay } = membershipOf(network).underlay;
  return {
    network,
    lease: leaseOf(network, 1),
    underlay: {
      ...underlay,
      ip: IpAddress.parse('2001:db8::1'),
      onLink: [{ link: 'eth0', prefix: IpNetwork.parse('2001:db8::/64') }],
    },
  };
}

export function endpointOf(network: Network, ip: string, fields: Partial<Endpoint> = {}): Endpoint {
  const { address } = parseInterface(ip);
  const id = fields.id ?? vtepMac('endpoint', ip, 4).replaceAll(':', '').padEnd(16, '0');
  return {
    id,
    name: 'c1',
    explicitName: false,
    network: network.name,
    node: 'n1',
    target: 'netns:/run/netns/c1',
    sandbox: { path: '/run/netns/c1', cookie: '4096', bootId: 'boot' },
    ifname: 'eth0',
    hostIfname: hostIfname(id),
    mac: macOf(address),
    ip,
    defaultRoute: true,
    aliases: [],
    publish: [],
    manager: 'weft',
    createdAt: '2026-11-21T00:00:00Z',
    ...fields,
  };
}

export function claimOf(
  network: Network,
  ip: string,
  node: string,
  state: Claim['state'] = 'granted',
): Claim {
  return { network: network.name, ip: IpAddress.parse(ip), node, endpoint: '0123456789abcdef', state };
}
