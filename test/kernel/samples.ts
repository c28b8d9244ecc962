// A network, a peer and an endpoint, as the kernel tests use them.
import type { FirewallDriver } from '../../agent/kernel/kernel.js';
import { IpAddress, IpNetwork } from '../../core/address.js';
import { leaseDataFor } from '../../core/backends/index.js';
import { isBridged } from '../../core/drivers/index.js';
import { hostIfname, macOf, type Membership } from '../../core/compile.js';
import type { Endpoint, Lease, Network } from '../../core/records.js';

/** For tests of links, addresses and routes. */
export const noFirewall: FirewallDriver = {
  kind: 'nftables',
  difference: () => Promise.resolve([]),
  ensure: () => Promise.resolve({ repaired: [], problems: [] }),
  changeItems: () => Promise.resolve({ repaired: [], problems: [] }),
  drops: () => [],
  losses: () => [],
  denials: () => [],
  remove: () => Promise.resolve(),
  close: () => undefined,
};

export const ip = (text: string): IpAddress => IpAddress.parse(text);
export const net = (text: string): IpNetwork => IpNetwork.parse(text);

export function network(name: string, vni: number, third: number, dual: boolean): Network {
  const subnet = net(`10.${third}.0.0/16`);
  const subnet6 = net(`fd42:${third}::/48`);
  return {
    name,
    driver: 'overlay',
    backend: 'vxlan',
    subnet,
    hostPrefix: 24,
    range: { first: net(`10.${third}.1.0/24`), last: net(`10.${third}.255.0/24`) },
    ...(dual
      ? {
          subnet6,
          hostPrefix6: 64,
          range6: { first: net(`fd42:${third}:0:1::/64`), last: net(`fd42:${third}:0:ffff::/64`) },
        }
      : {}),
    vni,
    port: 8472,
    internal: false,
    masquerade: true,
  };
}

const noKeys = { current: () => '', next: () => undefined };

export function lease(of: Network, node: number): Lease {
  const name = `node${node}`;
  const third = of.subnet.toString().split('.')[1];
  const data = isBridged(of)
    ? undefined
    : leaseDataFor(of, { instance: name, keys: noKeys }, of.subnet6 === undefined ? [4] : [4, 6]);
  return {
    network: of.name,
    subnet: net(`10.${third}.${node}.0/24`),
    ...(of.subnet6 === undefined
      ? {}
      : {
          subnet6: net(`fd42:${third}:0:${node.toString(16)}::/64`),
          publicIp6: ip(`2001:db8::${node.toString(16)}`),
        }),
    publicIp: ip(`192.0.2.${node}`),
    backendType: 'vxlan',
    ...(data && { data }),
    node: name,
    instance: name,
    reservation: false,
  };
}

export function membership(of: Network): Membership {
  return {
    network: of,
    lease: lease(of, 1),
    underlay: {
      ip: ip('192.0.2.1'),
      ...(of.subnet6 === undefined ? {} : { ip6: ip('2001:db8::1') }),
      mtu: 1500,
      link: 'eth0',
      onLink: [],
    },
  };
}

export function endpoint(
  of: Membership,
  id: string,
  host: number,
  path: string,
  options: Partial<Endpoint> = {},
): Endpoint {
  const address = of.lease.subnet.at(host);
  return {
    id,
    name: `c${host}`,
    explicitName: false,
    network: of.network.name,
    node: 'node1',
    target: `netns:${path}`,
    sandbox: { path, cookie: '1', bootId: 'b' },
    ifname: 'eth0',
    hostIfname: hostIfname(id),
    mac: macOf(address),
    ip: `${address.toString()}/24`,
    ...(of.lease.subnet6 === undefined ? {} : { ip6: `${of.lease.subnet6.at(host).toString()}/64` }),
    defaultRoute: true,
    aliases: [],
    publish: [],
    manager: 'weft',
    createdAt: '2026-01-01T00:00:00.000Z',
    ...options,
  };
}
