// A second segment for the hosts: a switch with a router, as in an office or rack.
//
// The hosts have addresses and a default route there, which tests expect to find unchanged.
import { ipBatch } from './exec.js';
import type { Cluster } from './cluster.js';

export const LAN = {
  subnet: '198.51.100.128/25',
  length: 25,
  router: '198.51.100.129',
  router6: '2001:db8:1::1',
  /** h1 is .131 and ::131, and so on. */
  ip: (host: number): string => `198.51.100.${130 + host}`,
  ip6: (host: number): string => `2001:db8:1::${130 + host}`,
  /** The hosts' interface there. */
  link: 'eth1',
} as const;

/** Joins every host of the cluster to a LAN; the router is the namespace `router`, the switch `switch`. */
export async function addLan(lab: Cluster, hosts: number): Promise<void> {
  await lab.addContainers('switch', 'router');
  const at = (name: string): string => lab.ns(name);
  const members = ['router', ...Array.from({ length: hosts }, (_, i) => `h${i + 1}`)];
  await ipBatch(
    members.map(
      (name) => `link add name ${name} netns ${at('switch')} type veth peer name eth1 netns ${at(name)}`,
    ),
  );
  await ipBatch(
    [
      'link add name sw0 type bridge mcast_snooping 0',
      'link set sw0 up',
      ...members.map((name) => `link set ${name} master sw0 up`),
    ],
    at('switch'),
  );
  await ipBatch(
    [
      'link set lo up',
      'link set eth1 up',
      `address add ${LAN.router}/${LAN.length} dev eth1`,
      `address add ${LAN.router6}/64 dev eth1 nodad`,
      'address add 203.0.113.1/32 dev lo',
    ],
    at('router'),
  );
  for (let host = 1; host <= hosts; host++) {
    await ipBatch(
      [
        'link set eth1 up',
        `address add ${LAN.ip(host)}/${LAN.length} brd + dev eth1`,
        // A second one, of the kind that a DHCP client leaves: with an end.
        `address add 198.51.100.${140 + host}/${LAN.length} brd + dev eth1 valid_lft 7200 preferred_lft 3600`,
        `address add ${LAN.ip6(host)}/64 dev eth1 nodad`,
        `route add 203.0.113.0/24 via ${LAN.router} dev eth1 proto static metric 50 src ${LAN.ip(host)}`,
        `route add default via ${LAN.router} dev eth1 metric 200`,
        `route add 2001:db8:2::/48 via ${LAN.router6} dev eth1 metric 512`,
      ],
      at(`h${host}`),
    );
  }
}

/** A host's addresses and routes on the link, without lifetimes, which count down by themselves. */
export async function stateOf(lab: Cluster, host: string, link: string): Promise<unknown> {
  const json = async (...args: string[]): Promise<Record<string, unknown>[]> =>
    JSON.parse(await lab.sh(host, `ip -j ${args.join(' ')}`)) as Record<string, unknown>[];
  const [address = {}] = await json('-d', 'address', 'show', 'dev', link);
  const addresses = (address['addr_info'] as Record<string, unknown>[]).filter(
    (it) => it['scope'] !== 'link',
  );
  const lifetime = (value: unknown): unknown => (Number(value) > 4_000_000_000 ? 'for ever' : 'ends');
  const routes = [
    ...(await json('-d', '-4', 'route', 'show', 'table', 'all', 'dev', link)),
    ...(await json('-d', '-6', 'route', 'show', 'table', 'all', 'dev', link)),
  ].filter((route) => !/^(fe80|ff00)/.test(String(route['dst'])));
  return {
    mac: address['address'],
    mtu: address['mtu'],
    master: address['master'],
    flags: (address['flags'] as string[]).toSorted(),
    promiscuity: address['promiscuity'],
    addresses: addresses
      .map((it) => ({
        ...it,
        valid_life_time: lifetime(it['valid_life_time']),
        preferred_life_time: lifetime(it['preferred_life_time']),
      }))
      .toSorted((a, b) => JSON.stringify(a).localeCompare(JSON.stringify(b))),
    routes: routes.map((route) => JSON.stringify(route)).toSorted(),
  };
}
