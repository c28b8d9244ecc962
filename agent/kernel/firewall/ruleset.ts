// weft's nftables table of the IP families: compiled from the desired state.
//
// Pure functions. The rules refer to sets, so that another network adds only elements.
import { IpAddress, type IpNetwork } from '../../../core/address.js';
import type { Firewall } from '../../../core/firewall.js';
import { RESOLVER_IP } from '../../../core/link-names.js';
import { outermost } from '../../../core/prefixes.js';
import { elementsOf, VNI_BYTES, vniElement } from './elements.js';
import {
  askers,
  counterName,
  dropRule,
  dynamicSet,
  HOST_REASONS,
  QUERIES,
  rule,
  TOO_MANY_QUERIES,
  type ChainSpec,
  type Feature,
  type Rule,
  type Ruleset,
  type SetSpec,
} from './rules.js';

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

const IP = { 4: 'ip', 6: 'ip6' } as const;

/** Where containers come from: weft's links, or, without a tunnel or by another program's bridge, others. */
const BACKEND_RULES = ([4, 6] as const).flatMap((family) =>
  [
    { to: 'by a link of weft', from: 'iifname @links' },
    { to: 'by another link', from: `${IP[family]} saddr @overlay${family}` },
  ].map((way) => ({ family, ip: IP[family], ...way })),
);

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
        ...BACKEND_RULES.flatMap(({ family, to, from, ip }) => [
          dropRule(
            `udp dport @backends ${from} ${ip} daddr @nodes${family}`,
            'tunnel',
            `${to}: containers do not speak to the nodes' tunnels`,
          ),
        ]),
        ...([4, 6] as const).map((family) =>
          dropRule(
            `${IP[family]} daddr . tcp dport @control${family} iifname @links`,
            'control',
            'containers do not reach controllers and etcd',
          ),
        ),
        // Nearly all packets are judged here, by one lookup: none of the rules below is for them.
        rule('iifname . oifname @inside accept', 'inside one network', 'tunnels'),
        // Both directions of translated flows to a container: a published port, or a port that another program forwards.
        rule(
          // The cheapest match first: most packets are of no such flow.
          'ct status dnat iifname != @internal oifname != @internal accept',
          'published ports are reached from other networks',
        ),
        rule(
          'ip daddr @apart4 iifname @links iifname . ip daddr != @own4 drop',
          'networks do not reach each other',
          'apart',
        ),
        rule(
          'ip6 daddr @apart6 iifname @links iifname . ip6 daddr != @own6 drop',
          'networks do not reach each other',
          'apart',
        ),
        // By link and not by address: with br_netfilter, multicast and neighbour discovery between the containers of
        // one bridge pass this chain as well, and must be accepted.
        rule(
          'iifname @internal iifname . oifname != @inside drop',
          'internal networks reach nothing outside',
          'internal',
        ),
        rule(
          'oifname @internal iifname . oifname != @inside drop',
          'nothing outside reaches internal networks',
          'internal',
        ),
        // What the network's own links, and members without a tunnel, did not bring.
        ...([4, 6] as const).map((family) => {
          const [from, to] = [`${IP[family]} saddr`, `${IP[family]} daddr`];
          return dropRule(
            `iifname != @links ${to} @closed${family} ct state new ct status & dnat == 0 ${from} . ${to} != @plain${family}`,
            'direct',
            'what is not published is not reached from outside',
          );
        }),
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
        dropRule(
          'udp dport @backends iifname @links',
          'tunnel',
          "containers do not speak to the nodes' tunnels",
        ),
        ...([4, 6] as const).flatMap((family) => [
          dropRule(
            `udp dport @backends ${IP[family]} saddr @overlay${family}`,
            'tunnel',
            "containers do not speak to the nodes' tunnels",
          ),
          // Of other programs' VNIs on the port weft knows nothing.
          dropRule(
            `${VNI_BYTES} @vnis ${VNI_BYTES} . ${IP[family]} saddr != @vteps${family}`,
            'tunnel',
            'only members send packets of their networks',
          ),
        ]),
        // Of containers of other nodes: the bridge counts those of this one.
        ...([4, 6] as const).flatMap((family) =>
          QUERIES.map((query) =>
            dropRule(
              `iifname != "lo" ${IP[family]} saddr @overlay${family} ${query} update @queries${family} { ${IP[family]} saddr ${TOO_MANY_QUERIES} }`,
              'dns',
              'more DNS queries than a container may send',
            ),
          ),
        ),
        rule('iifname != @links accept', 'not from a container'),
        // Replies to what the host itself began, whatever address of its own it used.
        rule('ct state established,related accept', 'answers to the host'),
        dropRule('tcp dport @control_here', 'control', 'containers do not reach controllers and etcd'),
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
          'internal',
        ),
        // RFC 4861: neighbour discovery uses link-local and multicast addresses.
        rule(
          'iifname @internal ip6 daddr != { fe80::/10, ff00::/8 } iifname . ip6 daddr != @own6 drop',
          'internal networks reach the host at their gateway only',
          'internal',
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
        // Every packet of a tunnel passes here: the type is cheaper to read than the link.
        rule('icmp type redirect oifname @links drop', 'addresses may move: packets keep to the gateway'),
        rule(
          'icmpv6 type nd-redirect oifname @links drop',
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
          'sealed',
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

/** Undefined without networks: then no table is wanted either. */
export function compileRuleset(desired: Firewall): Ruleset | undefined {
  const { networks, others = [], ports = new Map(), members = new Map() } = desired;
  if (networks.length === 0) return undefined;
  const internal = networks.filter((network) => network.internal);
  const masquerading = networks.filter((network) => network.masquerade);
  const sealed = networks.filter((network) => network.sealed).flatMap((network) => network.prefixes);
  const overlays = [...networks.flatMap((network) => network.prefixes), ...others];
  // The only network of a node reaches all of itself: looking its links up with the address is what costs most.
  const apart = networks.length > 1 ? overlays : others;
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
          networks.flatMap(({ links }) =>
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
    const masked = masquerading.flatMap((network) => network.prefixes);
    const key = ['inet_proto', 'inet_service'];
    const data = [address, 'inet_service'];
    const plain = { interval: false, elements: new Set<string>() };
    sets.set(`own${family}`, { type: ['ifname', address], interval: true, elements: new Set(own) });
    sets.set(`overlay${family}`, { type: [address], interval: true, elements: prefixes(overlays) });
    sets.set(`apart${family}`, { type: [address], interval: true, elements: prefixes(apart) });
    sets.set(`masq${family}`, { type: [address], interval: true, elements: prefixes(masked) });
    sets.set(`sealed${family}`, { type: [address], interval: true, elements: prefixes(sealed) });
    sets.set(`hairpin${family}`, { type: [address, address], interval: true, elements: new Set(near) });
    sets.set(`itself${family}`, { ...plain, type: [address, address], elements: new Set() });
    sets.set(`gateway${family}`, { ...plain, type: [address], elements: new Set() });
    sets.set(`port${family}`, { ...plain, type: key, data, elements: new Set() });
    sets.set(`addr${family}`, { ...plain, type: [address, ...key], data, elements: new Set() });
  }
  addSecurity(sets, desired);
  for (const item of [...ports.values(), ...members.values()]) {
    for (const { set, element } of elementsOf(item)) sets.get(set)?.elements.add(element);
  }
  const features: Features = {
    tunnels: networks.some(({ tunnels = [] }) => tunnels.length > 0),
    internal: internal.length > 0,
    sealed: sealed.length > 0,
    apart: apart.length > 0,
  };
  return {
    sets,
    chains: chainsWith(features, desired.maxConnections),
    counters: HOST_REASONS.map(counterName),
  };
}

/** The sets of what containers and machines beside the host may not reach; other nodes are items. */
function addSecurity(
  sets: Map<string, SetSpec>,
  { networks, backendPorts = [], vnis = [], control = [] }: Firewall,
): void {
  const plain = (type: readonly string[], elements: readonly string[] = []): SetSpec => ({
    type,
    interval: false,
    elements: new Set(elements),
  });
  sets.set('backends', plain(['inet_service'], backendPorts.map(String)));
  sets.set('vnis', { ...plain(['inet_service', 'integer'], vnis.map(vniElement)), typeOf: VNI_BYTES });
  sets.set(
    'control_here',
    plain(
      ['inet_service'],
      control.flatMap(({ here, port }) => (here ? [`${port}`] : [])),
    ),
  );
  const closed = networks
    .filter(({ directAccess = false }) => !directAccess)
    .flatMap(({ prefixes }) => prefixes);
  for (const family of [4, 6] as const) {
    const address = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
    const isOfFamily = (one: { family: number }): boolean => one.family === family;
    const away = control.flatMap(({ ip, port }) =>
      isOfFamily(IpAddress.parse(ip)) ? [`${ip} . ${port}`] : [],
    );
    const closedPrefixes = outermost(closed.filter(isOfFamily)).map(String);
    sets.set(`control${family}`, plain([address, 'inet_service'], away));
    sets.set(`closed${family}`, { ...plain([address], closedPrefixes), interval: true });
    sets.set(`plain${family}`, { ...plain([address, address]), interval: true });
    sets.set(`nodes${family}`, plain([address]));
    sets.set(`vteps${family}`, {
      ...plain(['inet_service', 'integer', address]),
      typeOf: `${VNI_BYTES} . ${IP[family]} saddr`,
    });
    sets.set(`queries${family}`, askers(address));
    sets.set(`connections${family}`, dynamicSet([address], ['flags dynamic']));
  }
}

type Features = Readonly<Record<Feature, boolean>>;

/** The same for the same arguments: see compare in listing.ts. */
const known = new Map<string, Ruleset['chains']>();

/**
 * The chains with the rules that are needed. One that only accepts is not.
 * @param connections that a container may have open; undefined: any number
 */
function chainsWith(features: Features, connections: number | undefined): Ruleset['chains'] {
  const key = JSON.stringify([features, connections]);
  const chains = known.get(key) ?? new Map(neededChains(features, connections));
  known.set(key, chains);
  return chains;
}

function neededChains(features: Features, connections: number | undefined): [string, ChainSpec][] {
  const isNeeded = ({ only }: Rule): boolean => only === undefined || features[only];
  return [...CHAINS]
    .map(([name, spec]): [string, ChainSpec] => {
      const limits = name === 'forward' && connections !== undefined ? connectionLimits(connections) : [];
      return [name, { ...spec, rules: [...limits, ...spec.rules.filter(isNeeded)] }];
    })
    .filter(([, { rules }]) => rules.some(({ text }) => !text.endsWith('accept')));
}

const connectionLimits = (connections: number): Rule[] =>
  ([4, 6] as const).map((family) =>
    dropRule(
      `iifname @links ct state new add @connections${family} { ${IP[family]} saddr ct count over ${connections} }`,
      'connections',
      'more connections than a container may have',
    ),
  );
