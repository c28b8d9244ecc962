// weft's rules as iptables chains, for hosts without nftables.
//
// The same meaning as chains.ts, as lists of rules for each network, so that iptables alone suffices.
import { createHash } from 'node:crypto';

import type { Family, IpNetwork } from '../../../core/address.js';
import type { Firewall, FirewallPort } from '../../../core/firewall.js';
import { RESOLVER_IP } from '../../../core/link-names.js';
import type { Jump, WantedTable } from './xtables-plan.js';

export interface WantedTables {
  filter: WantedTable;
  nat: WantedTable;
  /** Whether the family may be missing: its rules only complete the set. */
  optional: boolean;
}

/** Undefined where nothing is wanted in this family. @param open whether ports are open although `firewall` has none */
export function compileTables(firewall: Firewall, family: Family, open = false): WantedTables | undefined {
  const { networks, others = [] } = firewall;
  const prefixesOf = (prefixes: readonly IpNetwork[]): string[] =>
    prefixes.filter((prefix) => prefix.family === family).map(String);
  const joined = networks.flatMap((network) => prefixesOf(network.prefixes));
  const overlays = [...joined, ...prefixesOf(others)];
  const optional = joined.length === 0;
  // An internal network must not get out by this family either, if it has no addresses of it.
  if (optional && !networks.some((network) => network.internal)) return undefined;
  const multicast = family === 4 ? ['224.0.0.0/4'] : ['ff00::/8'];
  const linkLocal = family === 4 ? [`${RESOLVER_IP}/32`] : ['fe80::/10'];

  const isolation: string[] = [];
  const input: string[] = [rule('-m conntrack --ctstate RELATED,ESTABLISHED', 'RETURN')];
  for (const { links, internal } of networks) {
    if (!internal) continue;
    // By link and not by address: see chains.ts.
    for (const from of links) for (const to of links) isolation.push(rule(`-i ${from} -o ${to}`, 'RETURN'));
    for (const link of links) isolation.push(rule(`-i ${link}`, 'DROP'), rule(`-o ${link}`, 'DROP'));
  }
  // Both directions of translated flows to a container: a published port, or a port that another program forwards.
  isolation.push(rule('-m conntrack --ctstate DNAT', 'RETURN'));
  for (const { links, prefixes, reaches = [], internal } of networks) {
    for (const link of links) {
      // route_localnet, which 127.0.0.1:PORT needs, would expose the host's loopback to the containers.
      if (family === 4) input.push(rule(`-d 127.0.0.0/8 -i ${link}`, 'DROP'));
      const own = prefixesOf([...prefixes, ...reaches]).map((prefix) =>
        rule(`-d ${prefix} -i ${link}`, 'RETURN'),
      );
      if (!internal) isolation.push(...own, rule(`-i ${link}`, 'WEFT-OVERLAYS'));
      input.push(...own, rule(`-i ${link}`, 'WEFT-OVERLAYS'));
      if (!internal) continue;
      for (const to of [...multicast, ...linkLocal]) input.push(rule(`-d ${to} -i ${link}`, 'RETURN'));
      input.push(rule(`-i ${link}`, 'DROP'));
    }
  }
  // Whatever route a packet took, the host's own included: an encrypted network is never left in clear.
  const sealed = networks
    .filter((network) => network.sealed)
    .flatMap(({ prefixes, links }) =>
      prefixesOf(prefixes).flatMap((prefix) => [
        ...[...links, 'lo'].map((link) => rule(`-d ${prefix} -o ${link}`, 'RETURN')),
        rule(`-d ${prefix}`, 'DROP'),
      ]),
    );
  const closed = closedRules(firewall, family);
  const seal = sealed.length === 0 ? [] : [rule('', 'WEFT-SEALED')];
  const masquerading = networks
    .filter((network) => network.masquerade)
    .flatMap((network) => prefixesOf(network.prefixes));
  // See chains.ts, chain redirects.
  const redirect = family === 4 ? '-p icmp -m icmp --icmp-type 5' : '-p ipv6-icmp -m icmp6 --icmpv6-type 137';
  const redirects = networks.flatMap(({ links }) =>
    links.map((link) => rule(`-o ${link} ${redirect}`, 'DROP')),
  );
  const filter: WantedTable = {
    chains: new Map([
      ['WEFT-REDIRECTS', redirects],
      ['WEFT-FORWARD', [...seal, ...closed.forward, rule('', 'WEFT-ISOLATION')]],
      ['WEFT-INPUT', [...closed.input, ...input]],
      ...closed.chains,
      ['WEFT-ISOLATION', isolation],
      ['WEFT-OVERLAYS', overlays.map((prefix) => rule(`-d ${prefix}`, 'DROP'))],
      ...(sealed.length === 0 ? [] : [['WEFT-SEALED', sealed] as const]),
    ]),
    jumps: [
      { from: 'FORWARD', to: 'WEFT-FORWARD', at: 'first' },
      { from: 'INPUT', to: 'WEFT-INPUT', at: 'first' },
      { from: 'OUTPUT', to: 'WEFT-REDIRECTS', at: 'first' },
      ...(sealed.length === 0 ? [] : [{ from: 'OUTPUT', to: 'WEFT-SEALED', at: 'first' } as const]),
    ],
  };
  return {
    filter,
    nat: compileNat(firewall, family, masquerading, [...overlays, ...multicast], open),
    optional,
  };
}

/**
 * What containers, and machines beside the host, may not reach: see chains.ts. Who sends a tunnel's packets, iptables does not
 * tell for each VNI, and it sees no frames between ports of a bridge.
 */
function closedRules(
  { networks, members = new Map(), backendPorts = [], inIp = false, control = [], maxConnections }: Firewall,
  family: Family,
): { forward: string[]; input: string[]; chains: (readonly [string, string[]])[] } {
  const isOfFamily = (ip: string): boolean => ip.includes(':') === (family === 6);
  const bits = family === 4 ? 32 : 128;
  const links = networks.flatMap((network) => network.links);
  const all = [...members.values()];
  const nodes = [...new Set(all.flatMap(({ addresses }) => addresses))].filter(isOfFamily).toSorted();
  const fromEach = (match: (link: string) => string, target: string): string[] =>
    links.map((link) => rule(match(link), target));
  const tcp = (port: number): string => `-p tcp -m tcp --dport ${port}`;
  const udp = (port: number): string => `-p udp -m udp --dport ${port}`;
  // 4: IP in IP.
  const tunnelled = [...backendPorts.map(udp), ...(inIp && family === 4 ? ['-p 4'] : [])];
  const away = control.filter(({ ip }) => isOfFamily(ip));
  const here = [...new Set(control.flatMap((one) => (one.here ? [one.port] : [])))];
  const prefixes = networks
    .filter(({ directAccess = false }) => !directAccess)
    .flatMap((network) => network.prefixes)
    .filter((prefix) => prefix.family === family);
  const plain = all.flatMap((member) => member.plain).filter(({ from }) => from.family === family);
  const direct =
    prefixes.length === 0
      ? []
      : [
          ...fromEach((link) => `-i ${link}`, 'RETURN'),
          rule('-m conntrack --ctstate DNAT', 'RETURN'),
          ...plain.map(({ from, to }) => rule(`-s ${from.toString()} -d ${to.toString()}`, 'RETURN')),
          rule('', 'DROP'),
        ];
  const limit = `-m conntrack --ctstate NEW -m connlimit --connlimit-above ${maxConnections} --connlimit-mask ${bits} --connlimit-saddr`;
  return {
    forward: [
      ...(maxConnections === undefined ? [] : fromEach((link) => `-i ${link} ${limit}`, 'DROP')),
      ...(nodes.length === 0
        ? []
        : tunnelled.flatMap((packets) => fromEach((link) => `-i ${link} ${packets}`, 'WEFT-NODES'))),
      ...away.flatMap(({ ip, port }) =>
        fromEach((link) => `-d ${ip}/${bits} -i ${link} ${tcp(port)}`, 'DROP'),
      ),
      ...prefixes.map((prefix) => rule(`-d ${prefix.toString()} -m conntrack --ctstate NEW`, 'WEFT-DIRECT')),
    ],
    input: [
      ...tunnelled.flatMap((packets) => fromEach((link) => `-i ${link} ${packets}`, 'DROP')),
      ...here.flatMap((port) => fromEach((link) => `-i ${link} ${tcp(port)}`, 'DROP')),
    ],
    chains: [
      ...(nodes.length === 0
        ? []
        : [['WEFT-NODES', nodes.map((ip) => rule(`-d ${ip}/${bits}`, 'DROP'))] as const]),
      ...(direct.length === 0 ? [] : [['WEFT-DIRECT', direct] as const]),
    ],
  };
}

function compileNat(
  firewall: Firewall,
  family: Family,
  masquerading: readonly string[],
  spared: readonly string[],
  open: boolean,
): WantedTable {
  const { networks } = firewall;
  const ports = [...(firewall.ports?.values() ?? [])].filter(({ ip }) => ip.includes(':') === (family === 6));
  const published = ports.length > 0 || open;
  const chains = new Map<string, readonly string[]>();
  const postrouting = published ? clientRules(firewall, family, ports) : [];
  if (published) {
    const loopback = family === 4 ? '-d 127.0.0.0/8' : '-d ::1/128';
    const local = rule('-m addrtype --dst-type LOCAL', PORTS_CHAIN);
    chains.set(PORTS_CHAIN, ports.toSorted(byAddressFirst).map(portRule));
    // A host on the same link could otherwise address a port of 127.0.0.1 to this host.
    chains.set('WEFT-PREROUTING', family === 4 ? [rule(loopback, 'RETURN'), local] : [local]);
    // The kernel forwards nothing from or to ::1: a client there gets an error at once instead of waiting.
    chains.set('WEFT-OUTPUT', family === 6 ? [rule(loopback, 'RETURN'), local] : [local]);
  }
  postrouting.push(...masquerading.map((prefix) => rule(`-s ${prefix}`, 'WEFT-MASQUERADE')));
  if (postrouting.length === 0) return { chains: new Map(), jumps: [] };
  chains.set('WEFT-POSTROUTING', postrouting);
  chains.set('WEFT-MASQUERADE', [
    ...networks.flatMap(({ links }) => links.map((link) => rule(`-o ${link}`, 'RETURN'))),
    // On lo, masquerading would take 127.0.0.1 for the host's own address.
    rule('-o lo', 'RETURN'),
    ...spared.map((prefix) => rule(`-d ${prefix}`, 'RETURN')),
    MASQUERADE,
  ]);
  return {
    chains,
    // Their position does not matter: what others translate in these chains is not weft's traffic.
    jumps: (published ? ['PREROUTING', 'OUTPUT', 'POSTROUTING'] : ['POSTROUTING']).map((from): Jump => ({
      from,
      to: `WEFT-${from}`,
      at: 'anywhere',
    })),
  };
}

/** One rule for each port: iptables has no maps, and not every host has ipset. */
export const PORTS_CHAIN = 'WEFT-PORTS';

function portRule({ hostIp, hostPort, protocol, ip, port }: FirewallPort): string {
  const six = ip.includes(':');
  const to = six ? `[${ip}]:${port}` : `${ip}:${port}`;
  const where = hostIp === undefined ? '' : `-d ${hostIp}/${six ? 128 : 32} `;
  return rule(`${where}-p ${protocol} -m ${protocol} --dport ${hostPort}`, 'DNAT', ` --to-destination ${to}`);
}

const byAddressFirst = (a: FirewallPort, b: FirewallPort): number =>
  Number(a.hostIp === undefined) - Number(b.hostIp === undefined);

/** Clients whose replies would not come back this way appear to the container under the gateway's address. */
function clientRules({ networks }: Firewall, family: Family, ports: readonly FirewallPort[]): string[] {
  const ofFamily = (prefixes: readonly IpNetwork[]): string[] =>
    prefixes.filter((prefix) => prefix.family === family).map(String);
  const forwarded = '-m conntrack --ctstate DNAT';
  const masked = (match: string): string => rule(match, 'MASQUERADE', ' --random-fully');
  const ipsWith = (clients: FirewallPort['clients']): string[] => [
    ...new Set(ports.filter((port) => port.clients === clients).map(({ ip }) => ip)),
  ];
  const bits = family === 4 ? 32 : 128;
  return [
    ...networks.flatMap(({ links }) =>
      family === 4 ? links.map((link) => masked(`-s 127.0.0.0/8 -o ${link} ${forwarded}`)) : [],
    ),
    ...networks.flatMap(({ local = [] }) =>
      ofFamily(local).map((prefix) => masked(`-s ${prefix} -d ${prefix} ${forwarded}`)),
    ),
    ...ipsWith('itself').map((ip) => masked(`-s ${ip}/${bits} -d ${ip}/${bits} ${forwarded}`)),
    ...networks.flatMap(({ shared, prefixes }) =>
      shared === undefined
        ? []
        : ofFamily(prefixes).map((prefix) =>
            rule(`-d ${prefix} -o ${shared.link} ${forwarded}`, 'SNAT', ` --to-source ${shared.source}`),
          ),
    ),
    ...ipsWith('gateway').map((ip) => masked(`-d ${ip}/${bits} ${forwarded}`)),
    ...networks.flatMap(({ tunnels = [], prefixes, reaches = [] }) =>
      tunnels.flatMap((tunnel) => [
        ...ofFamily([...prefixes, ...reaches]).map((prefix) => rule(`-s ${prefix} -o ${tunnel}`, 'RETURN')),
        masked(`-o ${tunnel} ${forwarded}`),
      ]),
    ),
  ];
}

const MASQUERADE = rule('', 'MASQUERADE', ' --random-fully');

function rule(match: string, target: string, options = ''): string {
  const text = `${match} -j ${target}${options}`;
  const hash = createHash('sha256').update(text).digest('hex').slice(0, 8);
  return `${match}${match === '' ? '' : ' '}-m comment --comment "weft:${hash}" -j ${target}${options}`;
}
