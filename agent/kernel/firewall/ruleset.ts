// weft's nftables table: compiled from the desired state, and its text.
//
// Pure functions. The rules refer to sets, so that another network adds only elements.
import { createHash } from 'node:crypto';

import { IpNetwork } from '../../../core/address.js';
import type { Firewall, FirewallPort } from '../../../core/firewall.js';
import { RESOLVER_IP } from '../../../core/link-names.js';

export const TABLE = 'inet weft';

interface SetSpec {
  /** The parts of a concatenation, by nft's names. */
  type: readonly string[];
  interval: boolean;
  /** Of a map: the parts of its values. */
  data?: readonly string[];
  /** In nft's syntax: `"wfbr1" . 10.1.0.0/16`, `tcp . 8080 : 10.1.0.2 . 80`. */
  elements: Set<string>;
}

interface ChainSpec {
  type: 'filter' | 'nat';
  hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting';
  prio: number;
  rules: readonly { text: string; comment: string }[];
}

export interface Ruleset {
  sets: ReadonlyMap<string, SetSpec>;
  chains: ReadonlyMap<string, ChainSpec>;
}

/** A rule whose comment identifies its text: listings of different versions print the same rule differently. */
function rule(text: string, why: string): { text: string; comment: string } {
  return { text, comment: `${why} (${createHash('sha256').update(text).digest('hex').slice(0, 8)})` };
}

/** Translation of published ports: by address and port of the host first, then by the port alone. */
const PORT_RULES = ([4, 6] as const).flatMap((family) => {
  const ip = family === 4 ? 'ip' : 'ip6';
  const destination = 'meta l4proto . th dport map';
  return [
    rule(
      `fib daddr type local dnat ${ip} to ${ip} daddr . ${destination} @addr${family}`,
      'ports of one address of the host',
    ),
    rule(
      `fib daddr type local dnat ${ip} to ${destination} @port${family}`,
      'ports of every address of the host',
    ),
  ];
});

/** Masquerading of traffic to published ports whose replies must come back this way. */
const CLIENT_RULES = [
  rule('oifname @links ct status dnat ip saddr 127.0.0.0/8 masquerade fully-random', 'from 127.0.0.1'),
  ...([4, 6] as const).flatMap((family) => {
    const ip = family === 4 ? 'ip' : 'ip6';
    return [
      rule(
        `ct status dnat ${ip} saddr . ${ip} daddr @hairpin${family} masquerade fully-random`,
        'to itself or a neighbour, by a published port',
      ),
      rule(
        `ct status dnat ${ip} saddr . ${ip} daddr @itself${family} masquerade fully-random`,
        'to itself, from an address of another subnet',
      ),
      rule(
        `ct status dnat ${ip} daddr @gateway${family} masquerade fully-random`,
        'to a container without a default route here',
      ),
      rule(
        `oifname @tunnels ct status dnat oifname . ${ip} saddr != @own${family} masquerade fully-random`,
        'to a container of another node, by a published port',
      ),
    ];
  }),
];

const CHAINS: ReadonlyMap<string, ChainSpec> = new Map<string, ChainSpec>([
  [
    'prerouting',
    {
      type: 'nat',
      hook: 'prerouting',
      // Priority dstnat.
      prio: -100,
      // A host on the same link could otherwise address a port of 127.0.0.1 to this host.
      rules: [
        rule('ip daddr 127.0.0.0/8 accept', 'the loopback is reached from the host alone'),
        ...PORT_RULES,
      ],
    },
  ],
  [
    'output',
    {
      type: 'nat',
      hook: 'output',
      prio: -100,
      // The kernel forwards nothing from or to ::1: a client there gets an error at once instead of waiting.
      rules: [rule('ip6 daddr ::1 accept', 'no way from ::1'), ...PORT_RULES],
    },
  ],
  [
    'forward',
    {
      type: 'filter',
      hook: 'forward',
      prio: 0,
      rules: [
        // Both directions of translated flows to a container: a published port, or a port that another program forwards.
        rule(
          // The cheapest match first: most packets are of no such flow.
          'ct status dnat iifname != @internal oifname != @internal accept',
          'published ports are reached from other networks',
        ),
        rule(
          'iifname @links ip daddr @overlay4 iifname . ip daddr != @own4 drop',
          'networks do not reach each other',
        ),
        rule(
          'iifname @links ip6 daddr @overlay6 iifname . ip6 daddr != @own6 drop',
          'networks do not reach each other',
        ),
        // By link and not by address: with br_netfilter, multicast and neighbour discovery between the containers of
        // one bridge pass this chain as well, and must be accepted.
        rule(
          'iifname @internal iifname . oifname != @inside drop',
          'internal networks reach nothing outside',
        ),
        rule(
          'oifname @internal iifname . oifname != @inside drop',
          'nothing outside reaches internal networks',
        ),
      ],
    },
  ],
  [
    'input',
    {
      type: 'filter',
      hook: 'input',
      prio: 0,
      rules: [
        rule('iifname != @links accept', 'not from a container'),
        // Replies to what the host itself began, whatever address of its own it used.
        rule('ct state established,related accept', 'answers to the host'),
        // route_localnet, which 127.0.0.1:PORT needs, would expose the host's loopback to the containers.
        rule('ip daddr 127.0.0.0/8 drop', "containers do not reach the host's loopback"),
        rule(
          'ip daddr @overlay4 iifname . ip daddr != @own4 drop',
          "networks do not reach each other's gateways",
        ),
        rule(
          'ip6 daddr @overlay6 iifname . ip6 daddr != @own6 drop',
          "networks do not reach each other's gateways",
        ),
        rule(
          `iifname @internal ip daddr != { 224.0.0.0/4, ${RESOLVER_IP} } iifname . ip daddr != @own4 drop`,
          'internal networks reach the host at their gateway only',
        ),
        // RFC 4861: neighbour discovery uses link-local and multicast addresses.
        rule(
          'iifname @internal ip6 daddr != { fe80::/10, ff00::/8 } iifname . ip6 daddr != @own6 drop',
          'internal networks reach the host at their gateway only',
        ),
      ],
    },
  ],
  [
    'redirects',
    {
      type: 'filter',
      hook: 'output',
      prio: 0,
      // Of two containers of a bridge one can have an address of another node's subnet, and the kernel tells the other to look
      // for it on the link. It would do so for five minutes, wherever
      // the address has gone meanwhile. The setting send_redirects is of no use: that of `all` counts, too.
      rules: [
        rule('oifname @links icmp type redirect drop', 'addresses may move: packets keep to the gateway'),
        rule(
          'oifname @links icmpv6 type nd-redirect drop',
          'addresses may move: packets keep to the gateway',
        ),
      ],
    },
  ],
  [
    'leaving',
    {
      type: 'filter',
      hook: 'postrouting',
      prio: 0,
      // Whatever route a packet took, the host's own included: an encrypted network is never left in clear.
      rules: ([4, 6] as const).map((family) => {
        const to = family === 4 ? 'ip daddr' : 'ip6 daddr';
        return rule(
          `${to} @sealed${family} oifname != "lo" oifname . ${to} != @own${family} drop`,
          'encrypted networks leave by their tunnels alone',
        );
      }),
    },
  ],
  [
    'postrouting',
    {
      type: 'nat',
      hook: 'postrouting',
      // Priority srcnat.
      prio: 100,
      rules: [
        ...CLIENT_RULES,
        rule('oifname @links accept', 'inside the overlays'),
        // On lo, masquerading would take 127.0.0.1 for the host's own address.
        rule('oifname "lo" accept', 'to the host itself'),
        rule(
          'ip saddr @masq4 ip daddr != @overlay4 ip daddr != 224.0.0.0/4 masquerade fully-random',
          'leaves the overlay',
        ),
        rule(
          'ip6 saddr @masq6 ip6 daddr != @overlay6 ip6 daddr != ff00::/8 masquerade fully-random',
          'leaves the overlay',
        ),
      ],
    },
  ],
]);

const quoted = (link: string): string => `"${link}"`;

/** The prefixes that no other one contains: interval sets reject overlaps, and hand-made networks may overlap. */
function outermost(prefixes: readonly IpNetwork[]): IpNetwork[] {
  const sorted = prefixes.toSorted((a, b) => a.length - b.length || Number(a.base.value - b.base.value));
  // Overlapping prefixes always contain each other; the shorter ones come first, so one lookup for each length suffices.
  const kept = new Map<string, IpNetwork>();
  const lengths = [...new Set(sorted.map((prefix) => prefix.length))];
  for (const prefix of sorted) {
    const inside = lengths.some(
      (length) => length <= prefix.length && kept.has(IpNetwork.of(prefix.base, length).toString()),
    );
    if (!inside) kept.set(prefix.toString(), prefix);
  }
  return [...kept.values()];
}

/** Undefined without networks: then no table is wanted either. */
export function compileRuleset({ networks, others = [], ports = new Map() }: Firewall): Ruleset | undefined {
  if (networks.length === 0) return undefined;
  const internal = networks.filter((network) => network.internal);
  const masquerading = networks.filter((network) => network.masquerade);
  const sealed = networks.filter((network) => network.sealed).flatMap((network) => network.prefixes);
  const names = (links: readonly string[]): SetSpec => ({
    type: ['ifname'],
    interval: false,
    elements: new Set(links.map(quoted)),
  });
  const sets = new Map<string, SetSpec>([
    ['links', names(networks.flatMap(({ links }) => links))],
    ['tunnels', names(networks.flatMap(({ tunnels = [] }) => tunnels))],
    ['internal', names(internal.flatMap(({ links }) => links))],
    [
      'inside',
      {
        type: ['ifname', 'ifname'],
        interval: false,
        elements: new Set(
          internal.flatMap(({ links }) =>
            links.flatMap((a) => links.map((b) => `${quoted(a)} . ${quoted(b)}`)),
          ),
        ),
      },
    ],
  ]);
  for (const family of [4, 6] as const) {
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const outer = (prefixes: readonly IpNetwork[]): IpNetwork[] =>
      outermost(prefixes.filter((prefix) => prefix.family === family));
    const prefixes = (all: readonly IpNetwork[]): Set<string> => new Set(outer(all).map(String));
    const own = networks.flatMap((network) =>
      outer([...network.prefixes, ...(network.reaches ?? [])]).flatMap((prefix) =>
        network.links.map((link) => `${quoted(link)} . ${prefix.toString()}`),
      ),
    );
    const near = outer(networks.flatMap(({ local = [] }) => local)).map(
      (prefix) => `${prefix.toString()} . ${prefix.toString()}`,
    );
    const overlays = [...networks.flatMap((network) => network.prefixes), ...others];
    const masked = masquerading.flatMap((network) => network.prefixes);
    const key = ['inet_proto', 'inet_service'];
    const data = [address, 'inet_service'];
    const plain = { interval: false, elements: new Set<string>() };
    sets.set(`own${family}`, { type: ['ifname', address], interval: true, elements: new Set(own) });
    sets.set(`overlay${family}`, { type: [address], interval: true, elements: prefixes(overlays) });
    sets.set(`masq${family}`, { type: [address], interval: true, elements: prefixes(masked) });
    sets.set(`sealed${family}`, { type: [address], interval: true, elements: prefixes(sealed) });
    sets.set(`hairpin${family}`, { type: [address, address], interval: true, elements: new Set(near) });
    sets.set(`itself${family}`, { ...plain, type: [address, address], elements: new Set() });
    sets.set(`gateway${family}`, { ...plain, type: [address], elements: new Set() });
    sets.set(`port${family}`, { ...plain, type: key, data, elements: new Set() });
    sets.set(`addr${family}`, { ...plain, type: [address, ...key], data, elements: new Set() });
  }
  for (const port of ports.values()) {
    for (const { set, element } of portElements(port)) sets.get(set)?.elements.add(element);
  }
  return { sets, chains: CHAINS };
}

/** Sets whose elements come only from ports. */
export const PORT_SETS: ReadonlySet<string> = new Set(
  [4, 6].flatMap((family) => [`itself${family}`, `gateway${family}`, `port${family}`, `addr${family}`]),
);

/** The elements of a published port: one in a map, and one in a set where its clients need the gateway's address. */
export function portElements(port: FirewallPort): { set: string; element: string }[] {
  const { hostIp, hostPort, protocol, ip } = port;
  const family = ip.includes(':') ? 6 : 4;
  const key = `${protocol} . ${hostPort} : ${ip} . ${port.port}`;
  const elements = [
    hostIp === undefined
      ? { set: `port${family}`, element: key }
      : { set: `addr${family}`, element: `${hostIp} . ${key}` },
  ];
  if (port.clients === 'gateway') elements.push({ set: `gateway${family}`, element: ip });
  if (port.clients === 'itself') elements.push({ set: `itself${family}`, element: `${ip} . ${ip}` });
  return elements;
}

/** Commands that replace any existing table with this one, in one transaction. */
export function renderReplacement(ruleset: Ruleset | undefined): string {
  const lines = [`table ${TABLE}`, `delete table ${TABLE}`];
  if (ruleset === undefined) return `${lines.join('\n')}\n`;
  lines.push(`table ${TABLE} {`);
  for (const [name, { type, interval, data, elements }] of ruleset.sets) {
    if (data === undefined) lines.push(`set ${name} {`, `type ${type.join(' . ')}`);
    else lines.push(`map ${name} {`, `type ${type.join(' . ')} : ${data.join(' . ')}`);
    if (interval) lines.push('flags interval');
    if (elements.size > 0) lines.push(`elements = { ${[...elements].join(', ')} }`);
    lines.push('}');
  }
  for (const [name, { type, hook, prio, rules }] of ruleset.chains) {
    lines.push(`chain ${name} {`, `type ${type} hook ${hook} priority ${prio}; policy accept`);
    for (const { text, comment } of rules) lines.push(`${text} comment "${comment}"`);
    lines.push('}');
  }
  lines.push('}');
  return `${lines.join('\n')}\n`;
}
